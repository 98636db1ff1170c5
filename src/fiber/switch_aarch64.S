/* SPDX-License-Identifier: MIT */
/*
 * fiber_context_switch() and the start of a fiber for aarch64 (AAPCS64). A
 * context is one word: the stack pointer under d8-d15 and x19-x30. The hints
 * are landing marks for branch target identification, and nothing on machines
 * without it.
 */
    .text
    .globl fiber_context_switch
    .hidden fiber_context_switch
    .type fiber_context_switch, %function
    .balign 16
fiber_context_switch:           /* x0: from, x1: to */
    .cfi_startproc
    hint #34                    /* bti c */
    stp d8, d9, [sp, #-160]!
    stp d10, d11, [sp, #16]
    stp d12, d13, [sp, #32]
    stp d14, d15, [sp, #48]
    stp x19, x20, [sp, #64]
    stp x21, x22, [sp, #80]
    stp x23, x24, [sp, #96]
    stp x25, x26, [sp, #112]
    stp x27, x28, [sp, #128]
    stp x29, x30, [sp, #144]
    mov x9, sp
    str x9, [x0]
    ldr x9, [x1]
    mov sp, x9
    ldp d10, d11, [sp, #16]
    ldp d12, d13, [sp, #32]
    ldp d14, d15, [sp, #48]
    ldp x19, x20, [sp, #64]
    ldp x21, x22, [sp, #80]
    ldp x23, x24, [sp, #96]
    ldp x25, x26, [sp, #112]
    ldp x27, x28, [sp, #128]
    ldp x29, x30, [sp, #144]
    ldp d8, d9, [sp], #160
    ret
    .cfi_endproc
    .size fiber_context_switch, . - fiber_context_switch

    .globl fiber_context_start
    .hidden fiber_context_start
    .type fiber_context_start, %function
    .balign 16
fiber_context_start:            /* x19: entry, x20: its argument */
    .cfi_startproc
    .cfi_undefined x30          /* backtraces end here */
    hint #36                    /* bti j */
    mov x0, x20
    blr x19
    brk #1
    .cfi_endproc
    .size fiber_context_start, . - fiber_context_start

#if defined(__ARM_FEATURE_BTI_DEFAULT)
    /* GNU property note: this object keeps to branch target identification. */
    .section .note.gnu.property, "a", %note
    .balign 8
    .word 4, 16, 5
    .asciz "GNU"
    .word 0xc0000000, 4, 1, 0
#endif
    .section .note.GNU-stack, "", %progbits
