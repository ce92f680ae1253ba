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

/** The same, with pages that other processes have as well, such as Deno's own program, counted as their share. */
export async function proportionalMb(pid: number): Promise<number> {
  const rollup = await Deno.readTextFile(`/proc/${pid}/smaps_rollup`);
  return Number(/^Pss:\s+(\d+)/m.exec(rollup)![1]) / 1024;
}
