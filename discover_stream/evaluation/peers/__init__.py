"""What people would use instead: still-picture and video codecs at their best, and two clever users of AV1."""
