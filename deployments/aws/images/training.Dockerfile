# Not needed: training jobs run in a stock TensorFlow image and bring their code. For those whose jobs may not download
# packages, or who want their own TensorFlow: push it anywhere, and deploy with --parameter TrainingImage=ADDRESS.
FROM tensorflow/tensorflow:2.21.0-gpu
COPY pyproject.toml README.md LICENSE /opt/boat/
COPY src /opt/boat/src
RUN pip install --no-cache-dir "/opt/boat[train]" "cloudpathlib[s3]"
