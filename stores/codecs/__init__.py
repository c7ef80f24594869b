"""Codecs that come with CNStra, which ``cnstra.stores`` exports: values made smaller, and values sealed."""
