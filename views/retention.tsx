import type { Retention } from "../models/retention.ts";
import type { Workspace } from "../models/workspaces.ts";
import { Form } from "./form.tsx";
import { Confirm, count } from "./parts.tsx";
import { useUrl } from "./url.ts";

/** As the database allows them: models/retention.ts. */
const CALLS_KEPT = [7, 30, 90, 180, 365, 730], BODIES_KEPT = [1, 7, 30];

/** What of the calls is kept and for how long: for all to read, for owners and admins to choose. */
export function Kept({ workspace, retention }: { workspace: Workspace; retention: Retention }) {
  const url = useUrl();
  const { callsKeptDays } = retention;
  return (
    <section class="card" id="kept" aria-labelledby="kept-title">
      <h2 id="kept-title">What is kept</h2>
      <p>
        Calls, the events of servers and toolboxes, and what people tried are kept for{" "}
        <strong>{callsKeptDays} days</strong>. What calls sum up to stays for two years, the
        workspace's own events as long as it does.
      </p>
      <Form action={url("/workspace/retention")} class="inline">
        <Days name="callsKeptDays" label="Keep them for" of={CALLS_KEPT} chosen={callsKeptDays} />
        <button class="quiet">Save</button>
        <p class="help">A shorter time removes what is older within minutes, for good.</p>
      </Form>
      <Bodies workspace={workspace} retention={retention} />
    </section>
  );
}

function Bodies({ workspace, retention }: { workspace: Workspace; retention: Retention }) {
  const url = useUrl();
  const { keepsBodies, bodiesKeptDays } = retention;
  const isOwner = workspace.role === "owner";
  const action = url("/workspace/bodies");
  return (
    <>
      <h3>What is said in calls</h3>
      {keepsBodies
        ? (
          <p>
            The arguments and answers of agents' calls are kept for{" "}
            <strong>{count(bodiesKeptDays, "day")}</strong>, masked and sealed, for owners and
            admins to see on a call's page.
          </p>
        )
        : (
          <p>
            It is not kept: of a call there is who, which tool, when, how long and how it ended.
          </p>
        )}
      {!isOwner && <p class="help">An owner decides that.</p>}
      {isOwner && !keepsBodies && (
        <Confirm label="Keep what is said" title="Keep what agents and tools say?" action={action}>
          <input type="hidden" name="isOn" value="true" />
          <p>
            Arguments and answers may hold anything: files, mail, what people told an agent. Owners
            and admins can read them on a call's page. Tell the people whose agents these are.
          </p>
          <p>
            Values of this workspace's secrets are masked, and so is what looks like a secret:
            members named password, token, authorization, api_key and the like, and known forms of
            keys. Other secrets in plain text are not recognised. What is left is cut to 32 KiB of
            arguments and 128 KiB of an answer, sealed with the key that seals secrets, and deleted
            with its time.
          </p>
          <Days
            name="bodiesKeptDays"
            label="Keep it for"
            of={BODIES_KEPT}
            chosen={bodiesKeptDays}
          />
        </Confirm>
      )}
      {isOwner && keepsBodies && (
        <>
          <Form action={action} class="inline">
            <input type="hidden" name="isOn" value="true" />
            <Days
              name="bodiesKeptDays"
              label="Keep it for"
              of={BODIES_KEPT}
              chosen={bodiesKeptDays}
            />
            <button class="quiet">Save</button>
          </Form>
          <Confirm
            label="Stop and delete"
            title="Keep nothing any more, and delete what is kept?"
            action={action}
          >
            <input type="hidden" name="isOn" value="false" />
            <p>
              All arguments and answers that are kept in this workspace are deleted now, for good.
              The calls themselves stay in the log.
            </p>
          </Confirm>
        </>
      )}
    </>
  );
}

function Days(
  { name, label, of, chosen }: { name: string; label: string; of: number[]; chosen: number },
) {
  return (
    <div class="field">
      <label for={name}>{label}</label>
      <select id={name} name={name}>
        {of.map((days) => (
          <option value={String(days)} selected={days === chosen}>{count(days, "day")}</option>
        ))}
      </select>
    </div>
  );
}
