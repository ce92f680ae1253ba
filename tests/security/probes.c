/*
 * Tries to break out of a container, one probe at a time, each in a process of its own. Prints a JSON
 * line a probe: "permitted" only where it really had its effect, else the error. Arguments: an address
 * of the host, the port that listens there on TCP and UDP, a sibling container's address, and, to go on
 * after a probe that ended all of them, how many to leave out.
 * Built static by tests/security/probes.ts.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <linux/limits.h>
#include <sys/reboot.h>
#include <unistd.h>

static const char *host_address, *sibling_address;
static int host_port;

#define OK(call) ((call) != -1)
#define SYS(...) OK(syscall(__VA_ARGS__))

static int writes(const char *path, const char *text) {
  int fd = open(path, O_WRONLY);
  return fd != -1 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}
static int reads(const char *path) {
  char byte;
  int fd = open(path, O_RDONLY);
  return fd != -1 && read(fd, &byte, 1) == 1;
}
static int sockets(int family, int type, int protocol) { return OK(socket(family, type, protocol)); }

static struct sockaddr_in to(const char *address, int port) {
  struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, address, &in.sin_addr);
  return in;
}
static int connects(const char *address, int port) {
  struct sockaddr_in in = to(address, port);
  struct timeval limit = {3, 0};
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd == -1) return 0;
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (OK(connect(fd, (void *)&in, sizeof in))) return 1;
  /* A refusal is an answer of the peer's: it was reached. */
  return errno == ECONNREFUSED;
}
static int answers(const char *address, int port, const char *text, int length) {
  struct sockaddr_in in = to(address, port);
  struct timeval limit = {2, 0};
  char answer[512];
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd == -1) return 0;
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (!OK(connect(fd, (void *)&in, sizeof in)) || !OK(send(fd, text, length, 0))) return 0;
  return recv(fd, answer, sizeof answer, 0) > 0;
}
/* Asks for a name's address; permitted when an answer with an address comes back. */
static int resolves(const char *server) {
  static const char query[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
                              "\x06stolen\x04leak\x07invalid\x00\x00\x01\x00\x01";
  struct sockaddr_in in = to(server, 53);
  struct timeval limit = {2, 0};
  unsigned char answer[512];
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd == -1) return 0;
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (!OK(connect(fd, (void *)&in, sizeof in)) || !OK(send(fd, query, sizeof query - 1, 0))) return 0;
  ssize_t length = recv(fd, answer, sizeof answer, 0);
  if (length < 12) return 0;
  /* Any answer of one that asks others (recursion available), for the question has left by then. */
  if ((answer[3] & 0x80) == 0) { errno = EREMOTEIO; return 0; }
  return 1;
}
static int runs(const char *path) {
  int in = open("/probes", O_RDONLY), out = open(path, O_WRONLY | O_CREAT, 0755);
  char buffer[65536];
  ssize_t length;
  if (in == -1 || out == -1) return 0;
  while ((length = read(in, buffer, sizeof buffer)) > 0)
    if (write(out, buffer, length) != length) return 0;
  close(out);
  execl(path, path, "--true", NULL);
  return 0;
}
static int maps(const char *path) {
  int fd = open(path, O_RDWR | O_CREAT, 0755);
  if (fd == -1 || write(fd, "\xc3", 1) != 1) return 0;
  return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) != MAP_FAILED;
}
static int from_memfd(void) {
  int in = open("/probes", O_RDONLY), out = syscall(SYS_memfd_create, "x", 0);
  char buffer[65536], *arguments[] = {"x", "--true", NULL}, *none[] = {NULL};
  ssize_t length;
  if (in == -1 || out == -1) return 0;
  while ((length = read(in, buffer, sizeof buffer)) > 0)
    if (write(out, buffer, length) != length) return 0;
  fexecve(out, arguments, none);
  return 0;
}
static int fills(const char *path) {
  static char block[1 << 20];
  int fd = open(path, O_WRONLY | O_CREAT, 0600);
  if (fd == -1) return 0;
  for (int mib = 0; mib < 200; mib++)
    if (write(fd, block, sizeof block) != sizeof block) {
      unlink(path);
      errno = ENOSPC; // A short write sets none.
      return 0;
    }
  unlink(path);
  return 1;
}
static int forks(void) {
  int count = 0;
  for (; count < 400; count++) {
    pid_t pid = fork();
    if (pid == -1) break;
    if (pid == 0) {
      alarm(4);
      pause();
      _exit(0);
    }
  }
  int error = errno;
  kill(0, SIGCONT);
  errno = error;
  return count >= 400;
}
static int opens_files(void) {
  for (int count = 0; count < 5000; count++)
    if (open("/dev/null", O_RDONLY) == -1) return 0;
  return 1;
}
static int eats_memory(void) {
  /* Killed at the container's limit, this process alone. 1 GiB. */
  for (int mib = 0; mib < 1024; mib++) {
    char *block = malloc(1 << 20);
    if (!block) return 0;
    memset(block, mib + 1, 1 << 20);
  }
  return 1;
}
static int dumps_core(void) {
  struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
  return OK(setrlimit(RLIMIT_CORE, &limit));
}
static int abstract_socket(void) {
  /* The abstract names of the host's network namespace would be listed here. */
  FILE *file = fopen("/proc/net/unix", "r");
  char line[512];
  int found = 0;
  while (file && fgets(line, sizeof line, file))
    if (strstr(line, " @")) found = 1;
  return found;
}
static int int80(void) {
#ifdef __x86_64__
  /* socketcall(2) by the 32-bit door: getpid is call 20 there. */
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
  if (result > 0) return 1;
  errno = -result;
#endif
  return 0;
}
static int multicast6(void) {
  struct sockaddr_in6 all = {.sin6_family = AF_INET6, .sin6_port = htons(5353)};
  inet_pton(AF_INET6, "ff02::1", &all.sin6_addr);
  all.sin6_scope_id = if_nametoindex("eth0");
  int fd = socket(AF_INET6, SOCK_DGRAM, 0);
  return all.sin6_scope_id && fd != -1 && OK(sendto(fd, "x", 1, 0, (void *)&all, sizeof all));
}
/* Asks for the audit's state (AUDIT_GET): permitted when the kernel does not answer with an error. */
static int audits(void) {
  struct { uint32_t length; uint16_t type, flags; uint32_t sequence, port; int32_t error; } message =
    {16, 1000, 5, 1, 0, 0};
  struct timeval limit = {1, 0};
  int fd = socket(AF_NETLINK, SOCK_RAW, 9);
  if (fd == -1) return 0;
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (send(fd, &message, 16, 0) != 16 || recv(fd, &message, sizeof message, 0) < 16) return 0;
  if (message.type == 2 && message.error != 0) { errno = -message.error; return 0; }
  return 1;
}
static int traces_init(void) {
  if (!OK(ptrace(PTRACE_ATTACH, 1, 0, 0))) return 0;
  /* It would stay stopped, and with it the container. */
  waitpid(1, NULL, __WALL);
  ptrace(PTRACE_DETACH, 1, 0, 0);
  kill(1, SIGCONT);
  return 1;
}
static int reads_process(void) {
  char local[8];
  struct iovec here = {local, 8}, there = {(void *)&host_address, 8};
  return OK(syscall(SYS_process_vm_readv, getppid(), &here, 1, &there, 1, 0));
}
static int namespaces_of(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
  int fd = open(path, O_RDONLY);
  return fd != -1 && OK(setns(fd, CLONE_NEWNET));
}
static int block_device(void) {
  if (!OK(mknod("/tmp/disk", S_IFBLK | 0600, makedev(254, 0)))) return 0;
  return reads("/tmp/disk");
}
static int char_device(void) {
  if (!OK(mknod("/tmp/mem", S_IFCHR | 0600, makedev(1, 1)))) return 0;
  return OK(open("/tmp/mem", O_RDONLY));
}
static int cgroup_release(void) {
  return writes("/sys/fs/cgroup/memory/release_agent", "/x") || writes("/sys/fs/cgroup/rdma/release_agent", "/x") ||
         writes("/sys/fs/cgroup/cgroup.procs", "0");
}
static int setuid_program(void) {
  struct stat file;
  const char *paths[] = {"/usr/bin/su", "/bin/su", "/usr/bin/mount", "/usr/bin/passwd", "/usr/bin/chsh"};
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) { errno = EPERM; return 0; }
  for (unsigned i = 0; i < sizeof paths / sizeof *paths; i++)
    if (OK(stat(paths[i], &file)) && (file.st_mode & S_ISUID)) return 1;
  return 0;
}
static int clone3_user(void) {
  uint64_t arguments[8] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
  long pid = syscall(SYS_clone3, arguments, sizeof arguments);
  if (pid == 0) _exit(0);
  return pid > 0;
}
static int perf_event(void) {
  char attributes[128] = {0};
  *(uint32_t *)(attributes + 4) = 128;
  return SYS(SYS_perf_event_open, attributes, 0, -1, -1, 0);
}
static int file_handle(void) {
  struct { unsigned bytes; int type; unsigned char handle[128]; } handle = {8, 1, {2}};
  int mount = open("/", O_RDONLY);
  return OK(syscall(SYS_open_by_handle_at, mount, &handle, O_RDONLY));
}
static int realtime(void) {
  struct sched_param parameter = {50};
  return OK(sched_setscheduler(0, SCHED_FIFO, &parameter));
}
static int clock_set(void) {
  struct timeval now = {1, 0};
  return OK(settimeofday(&now, NULL));
}
static int bpf_map(void) {
  uint32_t attributes[16] = {1, 4, 4, 1};
  return SYS(SYS_bpf, 0, attributes, sizeof attributes);
}
static int ping(const char *address) {
  struct sockaddr_in in = to(address, 0);
  struct timeval limit = {2, 0};
  char echo[64] = {8}, answer[128];
  int fd = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
  if (fd == -1) return 0;
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (!OK(sendto(fd, echo, sizeof echo, 0, (void *)&in, sizeof in))) return 0;
  return recv(fd, answer, sizeof answer, 0) > 0;
}

struct probe { const char *name; int (*run)(void); };
#define PROBE(name, body) static int name(void) { return body; }
PROBE(p_mount, OK(mount("none", "/tmp", "tmpfs", 0, "")))
PROBE(p_remount, OK(mount(NULL, "/", NULL, MS_REMOUNT, NULL)))
PROBE(p_umount, OK(umount2("/proc/sys", MNT_DETACH)))
PROBE(p_unshare_user, OK(unshare(CLONE_NEWUSER)))
PROBE(p_unshare_mount, OK(unshare(CLONE_NEWNS)))
PROBE(p_unshare_net, OK(unshare(CLONE_NEWNET)))
PROBE(p_setns, namespaces_of(1))
PROBE(p_pivot_root, SYS(SYS_pivot_root, "/tmp", "/tmp"))
PROBE(p_chroot, OK(chroot("/tmp")))
PROBE(p_ptrace_me, OK(ptrace(PTRACE_TRACEME, 0, 0, 0)))
PROBE(p_io_uring, ({ char p[120] = {0}; SYS(SYS_io_uring_setup, 4, p); }))
PROBE(p_userfaultfd, SYS(SYS_userfaultfd, 1))
PROBE(p_add_key, SYS(SYS_add_key, "user", "probe", "x", 1, -3))
PROBE(p_keyctl, SYS(SYS_keyctl, 0, -3, 1))
PROBE(p_kexec, SYS(SYS_kexec_load, 0, 0, NULL, 0))
PROBE(p_module, SYS(SYS_init_module, "x", 1, ""))
PROBE(p_raw, sockets(AF_INET, SOCK_RAW, IPPROTO_ICMP))
PROBE(p_packet, sockets(AF_PACKET, SOCK_RAW, htons(3)))
PROBE(p_alg, sockets(38, SOCK_SEQPACKET, 0))
PROBE(p_vsock, sockets(40, SOCK_STREAM, 0))
PROBE(p_audit, audits())
PROBE(p_disk, reads("/dev/sda") || reads("/dev/vda") || reads("/dev/nvme0n1"))
PROBE(p_mem, reads("/dev/mem"))
PROBE(p_kmsg, reads("/dev/kmsg"))
PROBE(p_core_pattern, writes("/proc/sys/kernel/core_pattern", "|/x"))
PROBE(p_sysrq, writes("/proc/sysrq-trigger", "?"))
PROBE(p_kcore, reads("/proc/kcore"))
PROBE(p_sys, writes("/sys/kernel/mm/transparent_hugepage/enabled", "never") || writes("/sys/power/state", ""))
PROBE(p_setuid, getuid() != 0 && OK(setuid(0)))
PROBE(p_setgid, getgid() != 0 && OK(setgid(0)))
PROBE(p_root, getuid() == 0)
PROBE(p_write_root, OK(open("/probe", O_WRONLY | O_CREAT, 0600)))
PROBE(p_write_passwd, OK(open("/etc/passwd", O_WRONLY | O_APPEND)))
PROBE(p_socket_docker, ({ struct sockaddr_un un = {AF_UNIX, "/var/run/docker.sock"}; int fd = socket(AF_UNIX, SOCK_STREAM, 0); OK(connect(fd, (void *)&un, sizeof un)); }))
PROBE(p_host_tcp, connects(host_address, host_port))
PROBE(p_host_udp, answers(host_address, host_port, "probe", 5))
PROBE(p_sibling_tcp, connects(sibling_address, 7))
PROBE(p_sibling_ping, ping(sibling_address))
PROBE(p_metadata, connects("169.254.169.254", 80))
PROBE(p_dns_outside, resolves("8.8.8.8"))
PROBE(p_dns_embedded, resolves("127.0.0.11"))
PROBE(p_dns_host, resolves(host_address))
PROBE(p_exec_tmp, runs("/tmp/probe"))
PROBE(p_exec_work, runs("/work/probe"))
PROBE(p_exec_shm, runs("/dev/shm/probe"))
PROBE(p_map_tmp, maps("/tmp/mapped"))
PROBE(p_disk_tmp, fills("/tmp/full"))
PROBE(p_disk_work, fills("/work/full"))
PROBE(p_disk_root, fills("/full"))
PROBE(p_shm, ({ int id = shmget(IPC_PRIVATE, 512 << 20, IPC_CREAT | 0600); void *at = id == -1 ? (void *)-1 : shmat(id, NULL, 0); if (at != (void *)-1) { memset(at, 1, 128 << 20); shmctl(id, IPC_RMID, NULL); } at != (void *)-1 && 0; }))
PROBE(p_personality, OK(syscall(SYS_personality, 0x0400000)))
PROBE(p_adjtimex, ({ struct timex t = {.modes = ADJ_TICK, .tick = 10000}; OK(adjtimex(&t)); }))
PROBE(p_hostname, OK(sethostname("x", 1)))
PROBE(p_reboot, OK(reboot(RB_DISABLE_CAD)))
PROBE(p_swapon, OK(swapon("/tmp/swap", 0)) || errno == EINVAL)
PROBE(p_quota, SYS(SYS_quotactl, 0x800007 << 8, "/dev/sda", 0, NULL))
PROBE(p_syslog, SYS(SYS_syslog, 3, ({ static char b[16]; b; }), 16))
PROBE(p_acct, OK(acct("/tmp/acct")))
PROBE(p_ioport, OK(syscall(SYS_iopl, 3)))
PROBE(p_ldt, SYS(SYS_modify_ldt, 0x11, ({ static int d[4] = {0, 0, 0, 0x51}; d; }), 16) && 0)
PROBE(p_vhangup, OK(vhangup()))
PROBE(p_nice, OK(setpriority(PRIO_PROCESS, 0, -5)))
PROBE(p_kill_host, OK(kill(getppid() > 1 ? 1 : 2, 0)) && getuid() == 0 && reads("/proc/1/environ") && 0)

static struct probe probes[] = {
  {"mount a filesystem", p_mount}, {"remount / writable", p_remount}, {"unmount /proc/sys", p_umount},
  {"new user namespace", p_unshare_user}, {"new mount namespace", p_unshare_mount},
  {"new network namespace", p_unshare_net}, {"clone3 into a user namespace", clone3_user},
  {"join a namespace", p_setns}, {"pivot_root", p_pivot_root}, {"chroot", p_chroot},
  {"ptrace the init", traces_init}, {"be traced", p_ptrace_me}, {"read another process", reads_process},
  {"bpf", bpf_map}, {"io_uring", p_io_uring}, {"userfaultfd", p_userfaultfd}, {"perf events", perf_event},
  {"add a kernel key", p_add_key}, {"read the kernel keyring", p_keyctl}, {"kexec", p_kexec},
  {"load a kernel module", p_module}, {"open a file by handle", file_handle},
  {"make and read a disk device", block_device}, {"make and open /dev/mem", char_device},
  {"raw socket", p_raw}, {"packet socket", p_packet}, {"AF_ALG socket", p_alg}, {"AF_VSOCK socket", p_vsock},
  {"write to the audit log", p_audit}, {"read a disk", p_disk}, {"read /dev/mem", p_mem},
  {"read the kernel's messages", p_kmsg}, {"syslog", p_syslog}, {"cgroup release agent", cgroup_release},
  {"write core_pattern", p_core_pattern}, {"sysrq", p_sysrq}, {"read /proc/kcore", p_kcore},
  {"write to /sys", p_sys}, {"be root", p_root}, {"setuid 0", p_setuid}, {"setgid 0", p_setgid},
  {"run a setuid program", setuid_program}, {"write to /", p_write_root},
  {"write /etc/passwd", p_write_passwd}, {"docker.sock", p_socket_docker},
  {"host by TCP", p_host_tcp}, {"host by UDP", p_host_udp}, {"sibling container by TCP", p_sibling_tcp},
  {"ping a sibling container", p_sibling_ping}, {"metadata address", p_metadata},
  {"DNS to 8.8.8.8", p_dns_outside}, {"DNS by Docker's resolver", p_dns_embedded},
  {"DNS by the host", p_dns_host}, {"IPv6 multicast", multicast6}, {"abstract sockets of the host", abstract_socket},
  {"run a file in /tmp", p_exec_tmp}, {"run a file in /work", p_exec_work}, {"run a file in /dev/shm", p_exec_shm},
  {"map a file in /tmp as code", p_map_tmp}, {"run a file in a memfd", from_memfd},
  {"200 MiB in /tmp", p_disk_tmp}, {"200 MiB in /work", p_disk_work}, {"200 MiB in /", p_disk_root},
  {"400 processes", forks}, {"5,000 open files", opens_files}, {"1 GiB of memory", eats_memory},
  {"core dumps", dumps_core}, {"personality", p_personality}, {"realtime priority", realtime},
  {"higher priority", p_nice}, {"set the clock", clock_set}, {"adjust the clock", p_adjtimex},
  {"set the host's name", p_hostname}, {"reboot", p_reboot}, {"swap on", p_swapon}, {"quotas", p_quota},
  {"process accounting", p_acct}, {"I/O ports", p_ioport}, {"hang up terminals", p_vhangup},
  {"32-bit system calls", int80},
};

int main(int count, char **arguments) {
  if (count == 2 && !strcmp(arguments[1], "--true")) return 0;
  if (count != 4 && count != 5) return 2;
  host_address = arguments[1];
  host_port = atoi(arguments[2]);
  sibling_address = arguments[3];
  for (unsigned i = count == 5 ? atoi(arguments[4]) : 0; i < sizeof probes / sizeof *probes; i++) {
    int channel[2], status = 0, error = 0;
    if (pipe2(channel, O_CLOEXEC)) return 3;
    pid_t pid = fork();
    if (pid == 0) {
      /* Its own group, so that what it started ends with it. */
      setpgid(0, 0);
      signal(SIGCONT, SIG_IGN);
      alarm(10);
      errno = 0;
      int permitted = probes[i].run();
      error = permitted ? 0 : errno ? errno : EACCES;
      if (write(channel[1], &error, sizeof error) != sizeof error) _exit(9);
      _exit(permitted ? 0 : 1);
    }
    close(channel[1]);
    waitpid(pid, &status, 0);
    kill(-pid, SIGKILL);
    while (waitpid(-pid, NULL, WNOHANG) > 0);
    if (read(channel[0], &error, sizeof error) != sizeof error) error = 0;
    close(channel[0]);
    int permitted = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    char detail[64] = "";
    if (WIFSIGNALED(status)) snprintf(detail, sizeof detail, "ended by signal %d", WTERMSIG(status));
    else if (!permitted) snprintf(detail, sizeof detail, "%s", strerrorname_np(error) ? strerrorname_np(error) : "?");
    printf("{\"name\":\"%s\",\"permitted\":%s,\"detail\":\"%s\"}\n", probes[i].name, permitted ? "true" : "false", detail);
    fflush(stdout);
    usleep(i == 0 ? 0 : 1000);
  }
  return 0;
}
