"""What `omlab` sees of an agent: it says that it is ready, and serves until it is killed."""

import argparse
import os
import signal

parser = argparse.ArgumentParser()
parser.add_argument("--config")
parser.add_argument("--run")
parser.add_argument("--ready-fd", type=int)
options = parser.parse_args()
assert os.environ["OPENMOSIX_CONFIG"] == options.config
assert os.environ["OPENMOSIX_RUN"] == options.run
os.write(options.ready_fd, b"ready\n")
os.close(options.ready_fd)
while True:
    signal.pause()
