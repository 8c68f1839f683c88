"""The nightly job: when it may begin, what it does, and where it keeps what is done."""
