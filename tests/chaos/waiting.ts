/** Waiting, always with an end. */

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

const BEAT_MS = 500;
let awakeMs = 0;
let beatenMs = performance.now();
Deno.unrefTimer(setInterval(beat, BEAT_MS));

function beat(): void {
  const now = performance.now();
  awakeMs += Math.min(now - beatenMs, 10 * BEAT_MS);
  beatenMs = now;
}

/**
 * Milliseconds in which this process ran: a deadline by this clock does not pass while somebody has
 * stopped the harness, or the machine stands still.
 */
export function awake(): number {
  beat();
  return awakeMs;
}

/** Looks again and again until it holds. @throws {Error} that names what was waited for */
export async function eventually(
  what: string,
  holds: () => boolean | Promise<boolean>,
  timeoutMs = 30_000,
  everyMs = 100,
): Promise<void> {
  const deadline = awake() + timeoutMs;
  while (!await holds()) {
    if (awake() > deadline) throw new Error(`Waited ${timeoutMs} ms in vain: ${what}`);
    await sleep(everyMs);
  }
}

/** Runs a program to its end. @throws {Error} with its last words */
export async function run(program: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, { args, stdin: "null" })
    .output();
  if (success) return new TextDecoder().decode(stdout);
  throw new Error(
    `${[program, ...args].join(" ")} failed: ${new TextDecoder().decode(stderr).trim()}`,
  );
}
