# Versions of the tools of development, pinned here and nowhere else.
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOFUMPT := mvdan.cc/gofumpt@v0.12.0
BUF := github.com/bufbuild/buf/cmd/buf@v1.75.0
PROTOC_GEN_GO := google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
PROTOC_GEN_GO_TTRPC := github.com/containerd/ttrpc/cmd/protoc-gen-go-ttrpc@v1.2.10

# The newest containerd that the shim is tested with, beside the distribution's.
CONTAINERD := v2.4.2

# The client that is tested beside ctr; later versions lack a checksum record.
NERDCTL := v2.1.3

# The CRI validation suite; later versions lack a checksum record.
CRITEST := v1.30.0

# Builds the documentation site; the newest that Go 1.26 builds.
HUGO := github.com/gohugoio/hugo@v0.165.0

# The validation programs of OCI runtimes; the last release does not build.
RUNTIME_TOOLS := v0.9.1-0.20250523060157-0ea5ed0382a2

# The newest Docker that is tested beside the distribution's.
DOCKERD := github.com/moby/moby/v2/cmd/dockerd@v2.0.0-beta.24

# The CRI-O that is tested.
CRIO := v1.34.0
