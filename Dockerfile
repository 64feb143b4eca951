# The program with everything that a Ray node needs. It runs as an ordinary user.
#
#   docker build --tag cbmir .                                                  # CPU
#   docker build --tag cbmir:gpu --build-arg TORCH_INDEX=https://pypi.org/simple .

FROM python:3.11-slim-bookworm AS build

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY cli cli
COPY workers workers
COPY index index
COPY model model

RUN python -m venv /opt/cbmir \
    && /opt/cbmir/bin/pip install --no-cache-dir --constraint constraints.txt --extra-index-url "$TORCH_INDEX" '.[cluster]'

FROM python:3.11-slim-bookworm

RUN useradd --uid 10001 --create-home cbmir \
    && install --directory --owner cbmir --group cbmir /state /models

COPY --from=build /opt/cbmir /opt/cbmir

ENV PATH=/opt/cbmir/bin:$PATH \
    CBMIR_STATE=/state \
    PYTHONUNBUFFERED=1

USER 10001
WORKDIR /home/cbmir

CMD ["cbmir", "--help"]
