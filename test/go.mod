module dougong.dev/dougong/test

go 1.26.0

require (
	dougong.dev/dougong v0.0.0
	github.com/google/go-cmp v0.7.0
)

require (
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
)

replace dougong.dev/dougong => ../
