# Image of flow runs, worker and model registry: docker build -f deployments/aws/images/flows.Dockerfile .
FROM python:3.11-slim-bookworm

# MLflow's server needs a PostgreSQL driver. It is not in the lock, because the registry of a laptop is a file.
ARG PSYCOPG=psycopg2-binary==2.9.10

WORKDIR /opt/boat
COPY requirements.lock ./
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock \
    && pip install --no-cache-dir --no-deps "$PSYCOPG"
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation -e . \
    && useradd --create-home boat \
    && mkdir /var/boat \
    && chown boat /var/boat

USER boat
ENV BOAT_HOME=/var/boat \
    DO_NOT_TRACK=1 \
    PREFECT_HOME=/var/boat/prefect \
    PYTHONUNBUFFERED=1
