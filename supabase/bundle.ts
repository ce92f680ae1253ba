/**
 * Makes each of Supabase's functions one file of JavaScript, `supabase/functions/<name>/bundle.js`: JSX and text
 * imports are resolved, and packages are in it, so that deploying asks nothing of the machine but the CLI.
 */
const ROOT = new URL("..", import.meta.url);
const path = (name: string) => decodeURIComponent(new URL(name, ROOT).pathname);

/** What Supabase takes of a function. */
const LIMIT_BYTES = 20 * 1024 ** 2;

/** Code that has no place on an isolate, by what only it says. */
const FOREIGN: Record<string, RegExp> = {
  PGlite: /@electric-sql|pglite\.(wasm|data)/,
  "better-auth": /better-auth(?!\.)|betterAuth\(/,
  "the Docker Engine's API": /\/containers\/create/,
};

export const FUNCTIONS = ["app", "chat"];

/**
 * Bundles a function.
 *
 * @param file where it goes
 * @returns its size in bytes
 * @throws {Error} it is larger than Supabase takes, or holds what is not for an isolate
 */
export async function bundle(
  name: string,
  file = path(`supabase/functions/${name}/bundle.js`),
): Promise<number> {
  const entry = path(`supabase/functions/${name}/index.ts`);
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--quiet", "--lock=app.lock", "--platform=deno", "-o", file, entry],
    cwd: path("."),
    stdout: "null",
    stderr: "piped",
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  const text = await Deno.readTextFile(file);
  const mistakes = Object.keys(FOREIGN).filter((what) => FOREIGN[what].test(text))
    .map((what) => `it holds ${what}`);
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > LIMIT_BYTES) {
    mistakes.push(`it has ${bytes} bytes, and Supabase takes ${LIMIT_BYTES}`);
  }
  if (mistakes.length > 0) {
    // What is there is deployed.
    await Deno.remove(file);
    throw new Error(`The function ${name}: ${mistakes.join("; ")}`);
  }
  return bytes;
}

if (import.meta.main) {
  for (const name of FUNCTIONS) {
    const megabytes = (await bundle(name) / 1e6).toFixed(2);
    console.log(`supabase/functions/${name}/bundle.js: ${megabytes} MB of 20`);
  }
}
