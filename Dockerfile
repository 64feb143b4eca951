# The program with everything that a Ray node needs. It runs as an ordinary user.
#
#   docker build --tag cbmir .                                    # for processors: PyTorch's CPU wheels, and OpenVINO
#   docker build --tag cbmir:gpu --build-arg TORCH=gpu .          # PyTorch with CUDA, some 6 GB

FROM python:3.11-slim-bookworm AS dependencies

ARG TORCH=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /build
COPY pyproject.toml constraints.txt ./

RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils=2.40-* \
    && rm -rf /var/lib/apt/lists/*

# What the program needs, without the program: a change of its code leaves this layer as it is. PyPI's own wheel of
# PyTorch brings CUDA along, gigabytes that an image for processors is not to have unnoticed. What wheels bring for those
# who build on them, test or debug them goes: 0.7 of 2.3 GB. Libraries in folders NAME.libs keep their symbols, as those
# that auditwheel has patched do not load without them.
RUN python -m venv /opt/cbmir \
    && python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = project['optional-dependencies']; \
print(*project['dependencies'], *extras['cluster'], *extras['openvino'], *extras['s3'], *extras['serve'], sep='\n')" > requirements.txt \
    && if [ "$TORCH" = cpu ]; then set -- --extra-index-url "$TORCH_INDEX"; else set --; fi \
    && /opt/cbmir/bin/pip install --no-cache-dir --constraint constraints.txt --requirement requirements.txt "$@" \
    && SITE=/opt/cbmir/lib/python3.11/site-packages \
    && rm -rf "$SITE/torch/test" "$SITE/torch/include" "$SITE/ray/jars" "$SITE/openvino/include" \
        "$SITE"/openvino/libs/libopenvino_intel_gpu* "$SITE"/openvino/libs/libopenvino_intel_npu* \
        "$SITE/ray/rllib" "$SITE/torch/testing/_internal/distributed" "$SITE/torch/testing/_internal/generated" \
        "$SITE/pyarrow/include" "$SITE"/pyarrow/libarrow_flight* "$SITE"/pyarrow/*_flight* \
    && find "$SITE/torch/bin" -type f -not -name torch_shm_manager -delete \
    && find "$SITE" -type d -name tests -not -path '*/torch/*' -prune -exec rm -rf {} + \
    && for package in torch/lib pyarrow ray qdrant_edge openvino pandas grpc cryptography matplotlib sklearn pydantic_core \
        _gdcm imagecodecs PIL numpy; do \
        find "$SITE/$package" -type f \( -name '*.so' -o -name '*.so.*' -o -name raylet -o -name gcs_server \) \
            -exec strip --strip-unneeded {} +; done \
    && if [ "$TORCH" = cpu ]; then /opt/cbmir/bin/python -c "import torch; assert not torch.version.cuda, \
'PyTorch came with CUDA: is TORCH_INDEX reachable?'"; fi

FROM dependencies AS program

COPY README.md LICENSE ./
COPY cli cli
COPY workers workers
COPY index index
COPY model model
RUN /opt/cbmir/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm

RUN useradd --uid 10001 --create-home cbmir \
    && install --directory --owner cbmir --group cbmir /state /models

COPY --from=dependencies /opt/cbmir /opt/cbmir
COPY --from=program /wheels /wheels
RUN /opt/cbmir/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

ENV PATH=/opt/cbmir/bin:$PATH \
    CBMIR_STATE=/state \
    PYTHONUNBUFFERED=1

USER 10001
WORKDIR /home/cbmir

CMD ["cbmir", "--help"]
