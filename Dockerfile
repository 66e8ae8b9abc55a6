# A node of sidecast. The CPU build of torch by default; for a GPU node (cu126 where the driver is older than CUDA 13):
#
#   docker build -t sidecast .
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 -t sidecast:cuda .
#
# Nodes listen on 127.0.0.1 unless they are told otherwise, hence the host's network; outputs belong to whoever runs it:
#
#   docker run --rm --gpus all --network host --user "$(id -u):$(id -g)" -v "$PWD:/data" \
#       sidecast:cuda run kitti --node decoder --set drive=/data/DRIVE --out /data/out/k
#   docker run --rm --network host --user "$(id -u):$(id -g)" -v "$PWD:/data" -e SIDECAST_HEALTH=http://127.0.0.1:9101/livez \
#       sidecast run kitti --node encoder --set drive=/data/DRIVE
#
# A camera of the host needs `--device /dev/video0 --group-add video` besides.
# Not built in continuous integration: its steps are those of the Makefile, proven in a clean folder.
FROM python:3.11-slim-bookworm

# What opencv-python loads; everything else comes in wheels, so that there is nothing to compile. Debian keeps no older
# versions that could be pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 sidecast

# The largest layer first: it stays when the code changes. torchvision, which CompressAI imports, from the same index:
# PyPI's is built for one CUDA version only.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --index-url "$TORCH_INDEX" torch==2.13.0 torchvision==0.28.0

WORKDIR /opt/sidecast
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY pipeline pipeline
COPY stages stages
COPY tools tools
COPY configs configs
RUN /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt .

USER 10001
WORKDIR /home/sidecast
# With another --user there is no home to write to.
ENV PATH=/opt/venv/bin:$PATH MPLCONFIGDIR=/tmp/matplotlib

# The shipped configurations give the decoder's node port 9102, the encoder's 9101.
ENV SIDECAST_HEALTH=http://127.0.0.1:9102/livez
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(os.environ['SIDECAST_HEALTH'], timeout=2)"]

ENTRYPOINT ["sidecast"]
CMD ["--help"]
