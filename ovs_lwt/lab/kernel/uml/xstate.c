/* Preloaded into user-mode Linux: let it restore registers on processors with a large state (AMX).
 *
 * User-mode Linux keeps 2,696 bytes of a process's extended registers (x87 to PKRU: what there was
 * before AMX) and restores them with ptrace(PTRACE_SETREGSET, NT_X86_XSTATE). The host's kernel
 * takes this register set whole or not at all (xstateregs_set in arch/x86/kernel/fpu/regset.c:
 * EFAULT if the buffer is shorter). With AMX, whole is 11,008 bytes, so user-mode Linux panics over
 * its first process.
 *
 * This wrapper of ptrace completes the set: it reads the tracee's whole one, lays the bytes that
 * user-mode Linux gave over its beginning, and writes the result. What lies behind them stays as the
 * tracee has it, which is unused: only arch_prctl can allow a process to use AMX, and the calls of
 * these processes never reach the host's kernel. All other requests pass as they are.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

#define NT_X86_XSTATE 0x202UL /* <linux/elf.h>, which does not go with the C library's headers */

typedef long (*ptrace_call)(int request, pid_t pid, void *address, void *data);

static ptrace_call next_ptrace;

/* Static: the stacks of user-mode Linux are too small for it. One thread of it calls ptrace. Four
 * times what a processor with AMX needs. */
static unsigned char whole[4 * 11008] __attribute__((aligned(64)));

/* Before main: later, on a small stack, dlsym would have no room. */
__attribute__((constructor)) static void find_next(void)
{
    *(void **)&next_ptrace = dlsym(RTLD_NEXT, "ptrace");
}

static long set_xstate(pid_t pid, void *set, struct iovec *given)
{
    struct iovec complete = {whole, sizeof whole};
    long result = next_ptrace(PTRACE_GETREGSET, pid, set, &complete);

    if (result < 0)
        return result;
    if (given->iov_len >= complete.iov_len)
        return next_ptrace(PTRACE_SETREGSET, pid, set, given);
    memcpy(whole, given->iov_base, given->iov_len);
    return next_ptrace(PTRACE_SETREGSET, pid, set, &complete);
}

/* The C library declares it with "...", and always reads three more arguments. */
long ptrace(enum __ptrace_request request, ...)
{
    va_list arguments;
    pid_t pid;
    void *address, *data;

    va_start(arguments, request);
    pid = va_arg(arguments, pid_t);
    address = va_arg(arguments, void *);
    data = va_arg(arguments, void *);
    va_end(arguments);
    if (request == PTRACE_SETREGSET && (unsigned long)address == NT_X86_XSTATE)
        return set_xstate(pid, address, data);
    return next_ptrace(request, pid, address, data);
}
