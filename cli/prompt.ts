/** Questions at a terminal. */
import { UsageError } from "./command.ts";
import { type Output, visible } from "./output.ts";

/** Asks for something that is not shown while it is typed. @throws {UsageError} without a terminal */
export async function askSecret(question: string): Promise<string> {
  if (!Deno.stdin.isTerminal()) throw new UsageError(`${question} cannot be asked for here`);
  const encoder = new TextEncoder(), decoder = new TextDecoder();
  // Before the question: who answers at once is not seen either.
  Deno.stdin.setRaw(true);
  let typed = "";
  try {
    await Deno.stderr.write(encoder.encode(visible(`${question}: `)));
    const bytes = new Uint8Array(1024);
    for (;;) {
      const count = await Deno.stdin.read(bytes);
      for (const char of decoder.decode(bytes.subarray(0, count ?? 0), { stream: true })) {
        if (char === "\r" || char === "\n") return typed;
        if (char === "\u0003" || char === "\u0004") throw new UsageError("Given up");
        typed = char === "\u007f" || char === "\b" ? typed.slice(0, -1) : typed + char;
      }
      if (count === null) return typed;
    }
  } finally {
    Deno.stdin.setRaw(false);
    await Deno.stderr.write(encoder.encode("\n"));
  }
}

/** That a person means it: `--yes`, or y at a terminal. @throws {UsageError} */
export function confirm(isSaid: boolean, what: string): void {
  if (isSaid) return;
  if (!Deno.stdin.isTerminal()) throw new UsageError(`${what} Say --yes to mean it`);
  // On standard error: what is answered is on the other.
  Deno.stderr.writeSync(new TextEncoder().encode(visible(`${what}\nGo on? [y/N] `)));
  const bytes = new Uint8Array(1024);
  const said = new TextDecoder().decode(bytes.subarray(0, Deno.stdin.readSync(bytes) ?? 0));
  if (!/^y(es)?$/i.test(said.trim())) throw new UsageError("Given up");
}

/** All of standard input. */
export async function readInput(): Promise<string> {
  return await new Response(Deno.stdin.readable).text();
}

/** Of the environment, or asked for: one that the person named. */
export async function secret(name: string): Promise<string> {
  return Deno.env.get(name) ?? await askSecret(name);
}

/**
 * The same of a name that others chose, such as a catalog entry or a file: it may be that of any variable here, so
 * what is taken is said, and what the command line itself goes by is not given away.
 */
export async function secretTheyAsk(
  output: Output,
  name: string,
  label = name,
): Promise<string> {
  const given = name.startsWith("MOORING_") ? undefined : Deno.env.get(name);
  if (given === undefined) return await askSecret(label);
  output.tell(`${label}: ${name} of the environment is given`);
  return given;
}
