# The service in a small image: no build tools, no package manager's caches, no shell needed to run it.
#
#   docker build -t oneshot .                             CPU: OpenVINO, no PyTorch (the default)
#   docker build -t oneshot:gpu --build-arg GPU=1 .       NVIDIA GPUs: PyTorch's CUDA build, gigabytes

ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ARG GPU=0
ARG TORCH_INDEX_URL=""
ARG EXTRAS=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# Dependencies first, from the two files that name them: this layer stays while only the code changes.
COPY pyproject.toml constraints.txt ./
COPY container/install_dependencies.py container/
RUN python -m venv --without-pip /opt/oneshot \
    && python container/install_dependencies.py /opt/oneshot "${GPU}" "${EXTRAS}" "${TORCH_INDEX_URL}"

COPY README.md LICENSE NOTICE ./
COPY app app
COPY client client
COPY model model
COPY training training
RUN pip --python /opt/oneshot/bin/python install --quiet --no-deps .


FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="oneshot" \
      org.opencontainers.image.description="Recognises symbols, characters, parts, logos or faces from one example each" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

RUN groupadd --gid 10001 oneshot \
    && useradd --uid 10001 --gid oneshot --no-create-home --home-dir /data --shell /usr/sbin/nologin oneshot \
    && install --directory --owner=oneshot --group=oneshot --mode=0750 /data \
    && echo "PATH=/opt/oneshot/bin:\$PATH" >/etc/profile.d/oneshot.sh
COPY --from=build /opt/oneshot /opt/oneshot

ENV PATH=/opt/oneshot/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ONESHOT_HOST=0.0.0.0 \
    ONESHOT_PORT=8000 \
    ONESHOT_HOME=/data
WORKDIR /data
VOLUME /data
EXPOSE 8000
USER 10001:10001

HEALTHCHECK --interval=5s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-I", "-S", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['ONESHOT_PORT'] + '/readyz', timeout=4)"]

ENTRYPOINT ["oneshot"]
CMD ["serve"]
