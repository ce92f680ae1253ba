import type { DtmaCommands } from "../models/dtma_command.ts";
import type { Toolbox } from "../models/toolboxes.ts";
import { Form } from "./form.tsx";
import { Copy, Time } from "./parts.tsx";
import { useUrl } from "./url.ts";

/** How a toolbox is enrolled: with the command, once, else how to get another. */
export function Enrolment({ box, mayChange, commands, isWatched = false }: {
  box: Toolbox;
  mayChange: boolean;
  /** Made just now: the one time they are shown. */
  commands: DtmaCommands | null;
  /** Its command is on the open page. */
  isWatched?: boolean;
}) {
  return (
    <div id="enrolment" role="status">
      {commands
        ? <Command box={box} commands={commands} />
        : box.revokedAt || box.isLocal
        ? null
        : box.isEnrolled
        ? isWatched && (
          <p class="notice good">
            <strong>Enrolled.</strong> {box.name} is part of this workspace now.
          </p>
        )
        : <Waiting box={box} mayChange={mayChange} />}
    </div>
  );
}

function Command({ box, commands }: { box: Toolbox; commands: DtmaCommands }) {
  return (
    <section class="card" aria-labelledby="start-dtma">
      <h2 id="start-dtma">Start its DTMA</h2>
      {commands.warning && <p class="notice bad">{commands.warning}.</p>}
      <p>
        Run this on the machine with Docker, in a checkout of Mooring, as a user who may use Docker.
        {" "}
        <strong>It is shown this once</strong>: its token serves once, for 15 minutes.
        {box.isEnrolled && " When it is spent, the key that the toolbox has now stops working."}
      </p>
      <Copy id="command" text={commands.source} label="the command" />
      <details>
        <summary>In Docker</summary>
        <p>
          With the image that <code>docker build -t mooring/dtma -f images/dtma/Dockerfile .</code>
          {" "}
          makes in a checkout.
        </p>
        <Copy id="container" text={commands.container} label="the command for Docker" />
      </details>
      <details>
        <summary>As a systemd service</summary>
        <p>
          With Deno on the machine, where the files are that <code>deno task dtma:bundle</code>{" "}
          makes in a checkout (<code>dist/</code>).
        </p>
        <Copy id="service" text={commands.service} label="the commands for systemd" />
      </details>
      <details>
        <summary>Without a checkout</summary>
        <p>
          With those files too. In place of <code>mooring-dtma.js</code>{" "}
          the launcher runs the binary of <code>deno task dtma:build</code>, and Deno is not needed.
        </p>
        <Copy id="program" text={commands.program} label="the command without a checkout" />
      </details>
      <p class="help">
        Waiting for it. This page says so when the toolbox is enrolled; without script, reload{" "}
        the toolbox's page.
      </p>
    </section>
  );
}

function Waiting({ box, mayChange }: { box: Toolbox; mayChange: boolean }) {
  const url = useUrl();
  const expiresAt = box.enrolmentExpiresAt;
  return (
    <section class="card" aria-labelledby="start-dtma">
      <h2 id="start-dtma">Not enrolled yet</h2>
      {expiresAt && (
        <p>
          Its command was shown when it was made, and serves until{" "}
          <Time at={expiresAt} />. If it is lost or too old, make a new one.
        </p>
      )}
      {mayChange
        ? (
          <Form action={url(`/toolboxes/${box.id}/token`)}>
            <button>Make a new command</button>
          </Form>
        )
        : <p class="help">Owners and admins of the workspace can make a command for it.</p>}
    </section>
  );
}
