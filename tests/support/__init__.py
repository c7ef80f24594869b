"""What tests of several folders share. Imported as ``support``; holds no tests and no assertions about the
product.
"""
