# All images of a release:  VERSION=0.1.0 REVISION=$(git rev-parse HEAD) docker buildx bake -f docker/bake.hcl
# With --push they are pushed to REGISTRY, together with their SBOMs and how they were built.

variable "REGISTRY" { default = "" }
variable "VERSION" { default = "dev" }
variable "REVISION" { default = "unknown" }

group "default" { targets = ["gateway", "worker", "worker-cpu"] }

target "image" {
  context = "."
  args = {
    VERSION  = VERSION
    REVISION = REVISION
  }
  attest = ["type=sbom", "type=provenance,mode=max"]
}

target "gateway" {
  inherits   = ["image"]
  dockerfile = "docker/gateway.Dockerfile"
  tags       = ["${REGISTRY}creps-serve-gateway:${VERSION}"]
  platforms  = ["linux/amd64", "linux/arm64"]
}

# CUDA: arm64 is for Grace processors.
target "worker" {
  inherits   = ["image"]
  dockerfile = "docker/worker.Dockerfile"
  tags       = ["${REGISTRY}creps-serve-worker:${VERSION}"]
  platforms  = ["linux/amd64", "linux/arm64"]
}

target "worker-cpu" {
  inherits   = ["image"]
  dockerfile = "docker/worker.Dockerfile"
  args       = { TORCH_INDEX = "https://download.pytorch.org/whl/cpu" }
  tags       = ["${REGISTRY}creps-serve-worker-cpu:${VERSION}"]
  platforms  = ["linux/amd64", "linux/arm64"]
}
