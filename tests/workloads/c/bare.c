/* A program without any library, 32 or 64 bits wide: says `ready` and waits for ever. */
#if defined(__i386__)
#define SAY "mov $4, %eax; mov $1, %ebx; mov $text, %ecx; mov $6, %edx; int $0x80;"
#define WAIT "mov $29, %eax; int $0x80;"
#else
#define SAY "mov $1, %eax; mov $1, %edi; lea text(%rip), %rsi; mov $6, %edx; syscall;"
#define WAIT "mov $34, %eax; syscall;"
#endif

__asm__(".section .rodata; text: .ascii \"ready\\n\"; .text; .globl _start; _start: " SAY "1: " WAIT "jmp 1b");
