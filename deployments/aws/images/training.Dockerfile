# Optional: by default, training jobs run in a stock TensorFlow image and download their code and packages. Use this image
# if jobs may not download packages. Push it to a registry, and deploy with --parameter TrainingImage=ADDRESS.
FROM tensorflow/tensorflow:2.21.0-gpu
COPY pyproject.toml README.md LICENSE /opt/boat/
COPY src /opt/boat/src
RUN pip install --no-cache-dir "/opt/boat[train]" "cloudpathlib[s3]"
