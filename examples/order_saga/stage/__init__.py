"""What puts the order saga on stage: worker processes, a crash, and somebody who watches. A shop would have none of it."""
