/** `deno task probes`: runs the probes and writes docs/security.md with their table. */
import { absent, withToolbox } from "../dtma/engine.ts";
import { absent as noGvisor, gvisorVersion, withGvisor } from "../dtma/gvisor.ts";
import { breakOut, permitted, tableOf, WAYS } from "./break_out.ts";
import { breakOutOfGvisor } from "./gvisor.ts";

const INTRODUCTION = `# What a server in a container can do

Written by \`deno task probes\`, which \`tests/security/\` holds to its result: a program
(\`tests/security/probes.c\`) that tries, from inside, what is known to help a process out of its
container, or to use up the host. It is run in five ways:

- **docker run**: plain, as most guides for MCP servers have it (user 0, with an init);
- **cap-drop ALL, internal**: no capabilities, user 65532, on a network of Docker's \`--internal\`;
- **policy, no network**: as Mooring runs a server that declares no hosts;
- **policy, allow list**: as Mooring runs one that may reach \`allowed.example:443\` alone;
- **policy, in gVisor**: as Mooring runs the same where the toolbox has gVisor, registered with
  \`runsc install -- --oci-seccomp\`. There the calls are answered by gVisor's own kernel and not
  by the host's.

A cell says how the attempt ended: the error that it met, or **permitted**;
\`EINPROGRESS\` and \`EAGAIN\` on the network mean that nothing answered. The kernel, Docker's
version and the host's other protections (AppArmor, user namespaces) change some of the answers of
plain Docker; the policy counts on none of them.
`;

const AFTER = `
What stays permitted under the policy is running a file that exists in memory alone: seccomp sees no
difference between that and any other program, and the program meets the same walls.

In gVisor three are permitted, and each of its own kernel, which is the server's alone: that file,
code mapped from a file in \`/tmp\` (gVisor minds \`noexec\` when a file is run, and not when it is
mapped), and a higher priority among the server's own processes. Without \`--oci-seccomp\` there are
five more (new namespaces, being traced, io_uring, its log), all of that kernel too, since the policy's
seccomp profile is then not applied. Whoever uses up processes or memory there ends the whole sandbox,
which is started again like any server that went down.

What no container on the host's kernel keeps out is a fault of that kernel: deploy servers that you
trust less as *untrusted*, and they run in gVisor or Kata or not at all.
`;

if (absent || noGvisor) {
  console.error(`The probes cannot run: ${absent ?? noGvisor}`);
  Deno.exit(1);
}
await withToolbox(async (toolbox) => {
  const outcomes = await breakOut(toolbox);
  await withGvisor(async (own) => {
    outcomes.set("policy, in gVisor", await breakOutOfGvisor(own, "runsc"));
  });
  const { Version } = await toolbox.docker.version();
  const kernel = Deno.osRelease();
  const gvisor = await gvisorVersion();
  const total = outcomes.get(WAYS[0])!.length;
  const sums = WAYS.map((way) => `${way}: ${permitted(outcomes, way).length}`).join("; ");
  const measured =
    `\nOn Docker Engine ${Version}, Linux ${kernel}, ${gvisor}. Permitted of ${total}: ${sums}.\n\n`;
  const page = new URL("../../docs/security.md", import.meta.url);
  await Deno.writeTextFile(page, INTRODUCTION + measured + tableOf(outcomes) + AFTER);
  console.log(`Permitted of ${total}: ${sums}. Written: docs/security.md`);
});
