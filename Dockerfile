# A node of sidecast. The CPU build of torch by default; for a GPU node:
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 -t sidecast:cuda .
#   docker run --gpus all ... sidecast:cuda run kitti --node decoder ...
# Not built in continuous integration: its steps are those of the Makefile, proven in a clean folder.
FROM python:3.11-slim-bookworm

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# What opencv-python loads, and the compiler-free rest comes as wheels.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/sidecast
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY pipeline pipeline
COPY stages stages
COPY tools tools
COPY configs configs
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir torch==2.13.0 --index-url "$TORCH_INDEX" \
    && /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt .

RUN useradd --create-home --uid 10001 sidecast
USER sidecast
WORKDIR /home/sidecast
ENV PATH=/opt/venv/bin:$PATH

# The shipped configurations give the decoder's node port 9102, the encoder's 9101.
ENV SIDECAST_HEALTH=http://127.0.0.1:9102/livez
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(os.environ['SIDECAST_HEALTH'], timeout=2)"]

ENTRYPOINT ["sidecast"]
CMD ["--help"]
