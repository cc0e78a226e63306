# One static binary in an empty image: no shell, no package manager, not root.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w" -o /out/ssebridge ./cmd/ssebridge
RUN echo 'ssebridge:x:65532:65532:ssebridge:/:/ssebridge' > /out/passwd

FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ssebridge" \
      org.opencontainers.image.description="Serves NATS JetStream streams and Kafka topics as Server-Sent Events that resume exactly" \
      org.opencontainers.image.source="https://github.com/ssebridge/ssebridge" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
# Certificate authorities for tls:// and wss:// brokers.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/passwd /etc/passwd
COPY --from=build /out/ssebridge /ssebridge
USER 65532:65532
EXPOSE 8480
# Alive says nothing about the broker: one that is away is waited for.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/ssebridge", "healthcheck"]
ENTRYPOINT ["/ssebridge"]
CMD ["serve"]
