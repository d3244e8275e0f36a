# Our two images:
#
#   docker build --target runner --tag gantry/runner .
#   docker build --target helper --tag gantry/helper .
#
# For both architectures at once, `docker buildx build --platform linux/amd64,linux/arm64 …`:
# everything is compiled on the building machine.
#
# The same tree and the same packages of Debian give the same layers where the build is told a time,
# `--build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)`, and to put it on all files, `--output
# type=image,rewrite-timestamp=true`.
#
# What each holds is also listed in config/images/, from which tests/cluster/images builds the same
# without Docker; tests/cluster/check-images compares the two.

FROM --platform=$BUILDPLATFORM rust:1-bookworm AS build
# What packs helpers, and the compiler and the C library for the other architecture: nodes may be of
# either, whatever the runner's own is.
RUN case "$(uname -m)" in \
        x86_64) packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;; \
        *) packages="gcc-x86-64-linux-gnu libc6-dev-amd64-cross" ;; \
    esac \
    && apt-get update \
    && apt-get install --yes --no-install-recommends zstd $packages \
    && rustup target add x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu
WORKDIR /source
# For `--version`, where the build's context has no git.
ARG SOURCE_DATE_EPOCH
COPY . .
# `amd64` or `arm64`: what the image is for.
ARG TARGETARCH
# One after the other, where both architectures are built at once: each compiles helpers for both.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target,sharing=locked \
    config/images/compile "${TARGETARCH:-$(dpkg --print-architecture)}" /out

FROM debian:bookworm-slim AS helper
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bash ca-certificates git git-lfs \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/* /var/log/apt /var/log/*.log
COPY --from=build /out/gantry-helper /usr/bin/gantry-helper
COPY --from=build /out/gantry-helper.cdx.json /usr/share/gantry/gantry-helper.cdx.json
COPY --from=build /out/gantry-helper.notices.gz /usr/share/doc/gantry-helper/third-party-notices.gz
RUN ln -s gantry-helper /usr/bin/gitlab-runner-helper \
    && ln -s gantry-helper /usr/bin/gitlab-runner-build
STOPSIGNAL SIGTERM
CMD ["bash"]

# The last stage is what `docker build` makes when it is told nothing.
FROM debian:bookworm-slim AS runner
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bash ca-certificates dumb-init procps \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/* /var/log/apt /var/log/*.log
# The day on which an account was made is a part of it.
ARG SOURCE_DATE_EPOCH
# In group 0, which may write the home and the place of the configuration: clusters that choose the
# uid themselves choose that group. The names are those of GitLab's image, as command lines and
# mounts have them; a volume over /etc/gitlab-runner keeps what `register` writes.
RUN useradd --uid 1000 --gid 0 --create-home --home-dir /home/gitlab-runner --shell /bin/bash gitlab-runner \
    && chmod 0770 /home/gitlab-runner \
    && install --directory --owner 1000 --group 0 --mode 0770 /etc/gitlab-runner
# The helper is what the runner pushes into job pods whose helper image has none: packed, with what
# unpacks it.
COPY --from=build /out/gantry /out/gantry-helper /out/gantry-helper.zst /out/gantry-unpack /out/gantry-unpack.gz /out/other/* /usr/bin/
COPY --from=build /out/gantry.cdx.json /out/gantry-helper.cdx.json /usr/share/gantry/
# The licences of what is linked.
COPY --from=build /out/gantry.notices.gz /usr/share/doc/gantry/third-party-notices.gz
# Completions and manual pages.
COPY --from=build /out/share/ /usr/share/
# Under these names, and with the init and the pgrep above, GitLab's own chart starts it and looks
# after it.
RUN ln -s gantry /usr/bin/gitlab-runner \
    && ln -s /usr/bin/gantry /entrypoint
USER 1000:0
# Also for users that the image does not know.
ENV HOME=/home/gitlab-runner
WORKDIR /home/gitlab-runner
STOPSIGNAL SIGTERM
EXPOSE 9100
ENTRYPOINT ["/usr/bin/gantry"]
CMD ["run"]
