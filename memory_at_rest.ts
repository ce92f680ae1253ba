/**
 * Gives memory back when work is over. V8 collects garbage when it needs room, and glibc keeps what was freed
 * for what may come: after an hour's work a process that nobody asks anything holds twice what it needs.
 */
import { cpuUsage, memoryUsage } from "node:process";
import { setTimeout as delay } from "node:timers/promises";

/** By which Deno frees what it can, where it was started so; else the signal would end the process. */
const SIGNAL = "SIGUSR2";
const TAKES_SIGNAL = "DENO_USR2_MEMORY_TRIM";

/** A process rests that used less than a hundredth of a core for so long. */
const REST_MS = 10_000;
const REST_US = REST_MS * 1000 / 100;

/**
 * Giving back takes a quarter of a second twice, in which nothing is answered: not before so much was done,
 * which at the rate of a rest is three minutes' work, or the process has grown by so much.
 */
const WORK_US = 2_000_000;
const GROWTH_BYTES = 16 * 1024 * 1024;

/** What the first collection found is freed by then. */
const AGAIN_MS = 1000;

/**
 * Has this process give memory back whenever it rests after work, until `signal` aborts. Does nothing where it
 * may not signal itself, or does not take it.
 *
 * @param others to be told as well: processes that work when this one does
 */
export async function giveMemoryBackAtRest(
  others: (signal: typeof SIGNAL) => void,
  signal: AbortSignal,
): Promise<void> {
  // Elsewhere Deno does not listen for it, whatever the variable says (`deno help env_vars`).
  if (Deno.build.os !== "linux") return;
  let given = 0, before = 0, leastBytes = memoryUsage.rss();
  const mayRun = await Deno.permissions.query({ name: "run" });
  if (!Deno.env.get(TAKES_SIGNAL) || mayRun.state !== "granted") return;
  while (!signal.aborted) {
    await delay(REST_MS, undefined, { signal }).catch(() => {});
    const now = usedUs(), bytes = memoryUsage.rss();
    leastBytes = Math.min(leastBytes, bytes);
    const isDue = now - given > WORK_US || bytes - leastBytes > GROWTH_BYTES;
    if (!signal.aborted && now - before < REST_US && isDue) {
      await giveBack(others, signal);
      given = now;
      // What is left then is looked at when that is over: growth that lives is not tried again.
      leastBytes = Infinity;
    }
    before = now;
  }
}

/** Twice: what the first collection finds is freed behind it, and no page of that goes back before the second. */
async function giveBack(others: (signal: typeof SIGNAL) => void, signal: AbortSignal) {
  for (const waitMs of [0, AGAIN_MS]) {
    await delay(waitMs, undefined, { signal }).catch(() => {});
    if (signal.aborted) return;
    Deno.kill(Deno.pid, SIGNAL);
    others(SIGNAL);
  }
}

/** CPU time of this process so far, in microseconds. */
function usedUs(): number {
  const { user, system } = cpuUsage();
  return user + system;
}
