/**
 * Makes what a toolbox without a checkout runs, into `dist/`:
 *
 * - `deno task dtma:bundle`: `mooring-dtma.js`, one file that any Deno 2 runs, with the launcher
 *   `mooring-dtma` that gives it its permissions, and the systemd unit.
 * - `deno task dtma:build`: `mooring-dtma-bin`, one compiled binary, which needs no Deno. Its
 *   permissions are baked in, so they are for the MOORING_URL, DTMA_DATA_DIR, DOCKER_HOST… of this
 *   build's environment, or, without MOORING_URL, for an app at any address.
 */
import { dtmaPermissions } from "./permissions.ts";
import { DTMA_VERSION } from "./version.ts";

const ROOT = new URL("..", import.meta.url);
const path = (name: string) => decodeURIComponent(new URL(name, ROOT).pathname);

/** @param directory where the three files go */
export async function bundle(directory = path("dist")): Promise<void> {
  await Deno.mkdir(directory, { recursive: true });
  const file = `${directory}/mooring-dtma.js`;
  await deno("bundle", "--quiet", "-o", file, path("dtma/main.ts"));
  await Deno.copyFile(path("dtma/mooring-dtma.sh"), `${directory}/mooring-dtma`);
  await Deno.chmod(`${directory}/mooring-dtma`, 0o755);
  await Deno.copyFile(
    path("dtma/mooring-dtma.service"),
    `${directory}/mooring-dtma.service`,
  );
  console.log(`DTMA ${DTMA_VERSION}: ${file}, with its launcher and unit beside it`);
}

/**
 * @param environment DTMA's variables, for which its permissions are
 * @throws {Error} that says what to do when there is no denort
 */
export async function compile(
  environment: Record<string, string | undefined>,
  directory = path("dist"),
): Promise<void> {
  const file = `${directory}/mooring-dtma-bin`;
  const permissions = dtmaPermissions(environment, { anyApp: true });
  try {
    const flags = ["--quiet", "--exclude-unused-npm", ...permissions];
    await deno("compile", ...flags, "-o", file, path("dtma/main.ts"));
  } catch (error) {
    const { version } = Deno;
    throw new Error(
      `${
        (error as Error).message
      }\n\ndeno compile needs denort, the runtime that it puts into the ` +
        `binary, and could not get it if the above says so. Download denort of Deno ${version.deno} ` +
        "elsewhere (https://github.com/denoland/deno/releases) and name it in DENORT_BIN; or take the " +
        "bundle instead: deno task dtma:bundle",
    );
  }
  console.log(`DTMA ${DTMA_VERSION}: ${file}`);
}

async function deno(...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: path("."),
    stdout: "null",
    stderr: "piped",
  }).output();
  if (!success) {
    throw new Error(`deno ${args[0]} failed:\n${new TextDecoder().decode(stderr).trim()}`);
  }
}

if (import.meta.main) {
  try {
    await (Deno.args[0] === "--bundle" ? bundle() : compile(Deno.env.toObject()));
  } catch (error) {
    console.error((error as Error).message);
    Deno.exit(1);
  }
}
