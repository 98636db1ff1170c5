#!/bin/sh
# SPDX-License-Identifier: MIT
# Cross-builds the fibers with the aarch64 stack switch and runs a small
# program of them under qemu-aarch64. Exit 77: skipped, tools are missing.
set -eu

source_dir=$(cd "$(dirname "$0")/../.." && pwd)
cc=${CC_AARCH64:-aarch64-linux-gnu-gcc}
qemu=${QEMU_AARCH64:-$(command -v qemu-aarch64 || command -v qemu-aarch64-static || echo qemu-aarch64)}

for tool in "$cc" "$qemu"; do
    if ! command -v "$tool" >/dev/null 2>&1; then
        echo "skipped: $tool is not installed"
        exit 77
    fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for protection in none standard; do
    (cd "$source_dir/src/fiber" &&
        "$cc" -static -std=gnu17 -O2 -Wall -Wextra -Werror -Wno-unused-parameter -D_GNU_SOURCE \
            -DFIBER_SWITCH_ASM=1 -DFIBER_VALGRIND=0 "-mbranch-protection=$protection" \
            -I"$source_dir/include" -I. -o "$work/fibers" \
            "$source_dir/tests/tools/fiber_aarch64.c" \
            fiber.c stack.c sync.c group.c switch_asm.c switch_aarch64.S)
    echo "branch protection $protection:"
    timeout 60 "$qemu" "$work/fibers"
done
