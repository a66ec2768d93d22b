# The explorers as a page, for a machine without a GPU, also as a Space:
#   docker build -t fslab . && docker run --rm -p 7860:7860 fslab
# PyTorch is its build for the CPU, which uv fetches; TORCH is another file or requirement for pip:
#   docker build --build-arg TORCH=torch-2.13.0+cpu-cp312-cp312-manylinux_2_28_x86_64.whl -t fslab .
FROM python:3.12-slim

ARG TORCH=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --create-home --uid 1000 fslab
WORKDIR /srv/fslab
COPY . .
# hadolint ignore=SC2086
RUN python .ci/torch.py $TORCH \
    && python -m pip install --constraint constraints.txt '.[app]'

USER fslab
WORKDIR /home/fslab
# Something to look through, drawn by a seed that no data set of the package has.
RUN fslab scenes scenes --count 24 --seed 14 \
    && fslab evaluate scenes --method fslab --out results

EXPOSE 7860
CMD ["sh", "-c", "exec fslab app results --dataset scenes --ip 0.0.0.0 --port \"${PORT:-7860}\" --no-browser"]
