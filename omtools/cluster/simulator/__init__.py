"""A cluster in one process: the deciding code of `omtools.cluster`, driven by a clock that is a number."""
