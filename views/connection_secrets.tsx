import type { ConnectionSecret } from "../models/connection_secrets.ts";
import type { Connection } from "../models/connections.ts";
import { Form } from "./form.tsx";
import { Field, Mistake } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface ConnectionSecretsProps {
  connection: Connection;
  secrets: ConnectionSecret[];
  /** The server has an instance for each agent. */
  hasInstances: boolean;
  values?: Record<string, string>;
  mistakes?: Record<string, string>;
  mistake?: string;
}

/** Credentials that an agent has of its own at a server. */
export function ConnectionSecrets(props: ConnectionSecretsProps) {
  const { connection, secrets, hasInstances, values = {}, mistakes = {} } = props;
  const url = useUrl();
  const { agentId, serverId, agentName } = connection;
  return (
    <Form
      class="card"
      action={url(`/agents/${agentId}/connections/${serverId}/secrets`)}
      aria-labelledby="secrets-title"
    >
      <h2 id="secrets-title">Credentials of its own</h2>
      <p>
        What {visibleText(agentName)}{" "}
        gets in place of the server's own secrets, such as an API token of its own. Its instance of
        the server is started anew with them, and no other.
      </p>
      <Mistake>{props.mistake}</Mistake>
      {secrets.map(({ asked: { field, input }, isOwn }) => (
        <>
          <Field
            name={field}
            label={input.label ?? input.name}
            type="password"
            autocomplete="new-password"
            mistake={mistakes[field]}
            help={isOwn
              ? "It has a value of its own, kept sealed. Left empty: that stays."
              : "Left empty: it works with the server's own."}
          />
          {isOwn && (
            <Field
              name={`forget.${field}`}
              label={`Take its own ${input.label ?? input.name} back`}
              type="checkbox"
            />
          )}
        </>
      ))}
      {!hasInstances && (
        <Field
          name="instancePerAgent"
          label="Run an instance of the server for each agent"
          type="checkbox"
          value={values.instancePerAgent}
          mistake={mistakes.instancePerAgent}
          required
          help="It runs one for all agents now, which has one set of secrets. Each instance takes memory of its own."
        />
      )}
      <p class="acts">
        <button>Save</button>
      </p>
    </Form>
  );
}
