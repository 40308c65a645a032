# caption-pipeline in a container: the job file, the pictures and the output are mounted at /work,
# the quota ledger is kept in the volume /state.
#   docker build -t caption-pipeline .
#   docker run --rm --env-file .env -v "$PWD:/work" -v captions-state:/state caption-pipeline run job.yaml
FROM python:3.13-slim

RUN useradd --create-home --uid 1000 captions && mkdir /state && chown captions /state
WORKDIR /opt/caption-pipeline
COPY pyproject.toml README.md LICENSE ./
COPY pipeline ./pipeline
# What is installed is this checkout, whose pyproject.toml bounds the versions.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[fast,heif,s3,hf]"

USER 1000
ENV CAPTION_PIPELINE_STATE=/state
WORKDIR /work
ENTRYPOINT ["caption-pipeline"]
CMD ["--help"]
