/** `deno task probes`: runs the probes and writes docs/security.md with their table. */
import { absent, withToolbox } from "../dtma/engine.ts";
import { breakOut, permitted, tableOf, WAYS } from "./break_out.ts";

const INTRODUCTION = `# What a server in a container can do

Written by \`deno task probes\`, which \`tests/security/\` holds to its result: a program
(\`tests/security/probes.c\`) that tries, from inside, what is known to help a process out of its
container, or to use up the host. It is run in four ways:

- **docker run**: plain, as most guides for MCP servers have it (user 0, with an init);
- **cap-drop ALL, internal**: no capabilities, user 65532, on a network of Docker's \`--internal\`;
- **policy, no network**: as Mooring runs a server that declares no hosts;
- **policy, allow list**: as Mooring runs one that may reach \`allowed.example:443\` alone.

A cell says how the attempt ended: the error that it met, or **permitted**;
\`EINPROGRESS\` and \`EAGAIN\` on the network mean that nothing answered. The kernel, Docker's
version and the host's other protections (AppArmor, user namespaces) change some of the answers of
plain Docker; the policy counts on none of them.
`;

const AFTER = `
What stays permitted under the policy is running a file that exists in memory alone: seccomp sees no
difference between that and any other program, and the program meets the same walls. What no
container keeps out is a fault of the kernel itself: for servers you trust less use gVisor on a
toolbox of their own.
`;

if (absent) {
  console.error(`The probes cannot run: ${absent}`);
  Deno.exit(1);
}
await withToolbox(async (toolbox) => {
  const outcomes = await breakOut(toolbox);
  const { Version } = await toolbox.docker.version();
  const kernel = Deno.osRelease();
  const total = outcomes.get(WAYS[0])!.length;
  const sums = WAYS.map((way) => `${way}: ${permitted(outcomes, way).length}`).join("; ");
  const measured =
    `\nOn Docker Engine ${Version}, Linux ${kernel}. Permitted of ${total}: ${sums}.\n\n`;
  const page = new URL("../../docs/security.md", import.meta.url);
  await Deno.writeTextFile(page, INTRODUCTION + measured + tableOf(outcomes) + AFTER);
  console.log(`Permitted of ${total}: ${sums}. Written: docs/security.md`);
});
