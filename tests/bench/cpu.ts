/** CPU time of processes, which a loaded machine changes less than it does the clock's. */

/** Microseconds that a process has used so far, all its threads together. */
export async function cpuUs(pid: number): Promise<number> {
  let ns = 0;
  for await (const { name } of Deno.readDir(`/proc/${pid}/task`)) {
    try {
      ns += Number((await Deno.readTextFile(`/proc/${pid}/task/${name}/schedstat`)).split(" ")[0]);
    } catch {
      // A thread that ended meanwhile.
    }
  }
  return ns / 1000;
}

export async function residentMb(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024;
}

/**
 * The same of processes that run one program, whose pages count once. PSS would count less of them the more
 * others run it.
 */
export async function residentTogetherMb(pids: number[]): Promise<number> {
  let own = 0, shared = 0;
  for (const pid of pids) {
    const status = await Deno.readTextFile(`/proc/${pid}/status`);
    own += Number(/RssAnon:\s+(\d+)/.exec(status)![1]);
    shared = Math.max(shared, Number(/RssFile:\s+(\d+)/.exec(status)![1]));
  }
  return (own + shared) / 1024;
}
