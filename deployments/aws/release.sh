#!/usr/bin/env bash
# Release a built version: upload wheel and image, deploy the flows, restart the worker. Needs the role boat-release, and TAG.
set -euo pipefail

output() {
  aws cloudformation describe-stacks --stack-name "${STACK:-boat}" --output text \
    --query "Stacks[0].Outputs[?OutputKey=='$1'].OutputValue"
}

: "${TAG:?is not set. Set it to the release, such as v1.2.3}"
repository=$(output ImageRepository)
cluster=$(output ClusterName)

for file in dist/*.whl dist/SHA256SUMS; do
  aws s3 cp --only-show-errors "$file" "$(output CodeUri)/releases/$TAG/"
done

aws ecr get-login-password | docker login --username AWS --password-stdin "${repository%%/*}"
for name in "$TAG" current; do
  docker tag boat:release "$repository:$name"
  docker push --quiet "$repository:$name"
done

# The Prefect API is reachable inside the network only: a task of the stack deploys the flows.
public=$(output AssignPublicIp)
network="awsvpcConfiguration={subnets=[$(output TaskSubnetIds)],securityGroups=[$(output TaskGroupId)],assignPublicIp=$public}"
task=$(aws ecs run-task --cluster "$cluster" --task-definition boat-register --launch-type FARGATE \
  --network-configuration "$network" --query "tasks[0].taskArn" --output text)
echo "Waiting for the task boat-register: $task"
aws ecs wait tasks-stopped --cluster "$cluster" --tasks "$task"
code=$(aws ecs describe-tasks --cluster "$cluster" --tasks "$task" --query "tasks[0].containers[0].exitCode" --output text)
if [ "$code" != 0 ]; then
  echo "The task boat-register ended with exit code $code. See the log group /boat/server." >&2
  exit 1
fi

aws ecs update-service --cluster "$cluster" --service boat-worker --force-new-deployment --output text --query service.serviceName
