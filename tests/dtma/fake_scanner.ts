/** Fakes of trivy and grype, neither of which can be had here, as programs of those names. */
const FIXTURES = new URL("../fixtures/scanners/", import.meta.url).pathname;

/** Puts a fake of a scanner into a directory. @returns its path */
export async function putFake(directory: string, name: "trivy" | "grype"): Promise<string> {
  // By whole paths: DTMA gives a scanner no PATH.
  const command = `exec ${Deno.execPath()} run --quiet --no-lock --allow-read --allow-env ` +
    `${FIXTURES}${name}.mjs "$@"`;
  return await putScript(directory, name, command);
}

/** Puts a shell script in a scanner's place. @returns its path */
export async function putScript(
  directory: string,
  name: "trivy" | "grype",
  command: string,
): Promise<string> {
  await Deno.mkdir(directory, { recursive: true });
  const path = `${directory}/${name}`;
  await Deno.writeTextFile(path, `#!/bin/sh\n# A fake of ${name}.\n${command}\n`, { mode: 0o755 });
  return path;
}
