/* SPDX-License-Identifier: MIT */
/*
 * fiber_context_switch() and the start of a fiber for x86-64 (System V ABI).
 * A context is one word: the stack pointer under six pushed registers and the
 * return address. cet.h gives the landing marks for indirect-branch tracking;
 * shadow stacks are not supported, and the object is not marked as if they were.
 */
#if defined(__CET__)
#include <cet.h>
#else
#define _CET_ENDBR
#endif

    .text
    .globl fiber_context_switch
    .hidden fiber_context_switch
    .type fiber_context_switch, @function
    .balign 16
fiber_context_switch:           /* rdi: from, rsi: to */
    .cfi_startproc
    _CET_ENDBR
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq (%rsi), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .cfi_endproc
    .size fiber_context_switch, . - fiber_context_switch

    .globl fiber_context_start
    .hidden fiber_context_start
    .type fiber_context_start, @function
    .balign 16
fiber_context_start:            /* r13: entry, r12: its argument */
    .cfi_startproc
    .cfi_undefined rip          /* backtraces end here */
    _CET_ENDBR
    movq %r12, %rdi
    call *%r13
    ud2
    .cfi_endproc
    .size fiber_context_start, . - fiber_context_start

    .section .note.GNU-stack, "", @progbits
