import type { AskedInput } from "../models/catalog_entries.ts";
import type { Server } from "../models/servers.ts";
import { InputFields } from "./deploy_form.tsx";
import { Form } from "./form.tsx";
import { TierField } from "./isolation.tsx";
import { isElsewhere } from "./package.tsx";
import { Field, Mistake } from "./parts.tsx";
import { Generations, type GenerationsProps } from "./server_generations.tsx";
import { TransportFields } from "./transport.tsx";
import { useUrl } from "./url.ts";

export interface ConfigurationProps {
  server: Server;
  asked: AskedInput[];
  /** Of the form, when it did not hold. */
  values?: Record<string, string>;
  mistakes?: Record<string, string>;
  mistake?: string;
}

/** The tab: what it is given, and every generation that it was given something else. */
export function ConfigurationTab(
  props: ConfigurationProps & GenerationsProps,
) {
  return (
    <div class="columns">
      <Configuration {...props} />
      <Generations {...props} />
    </div>
  );
}

/** The configuration: a change makes the next generation. */
export function Configuration(props: ConfigurationProps) {
  const { server, asked } = props;
  const url = useUrl();
  return (
    <section class="card" id="configuration" aria-labelledby="configuration-title">
      <h2 id="configuration-title">Configuration</h2>
      <Form action={url(`/servers/${server.id}/configuration`)}>
        <Mistake>{props.mistake}</Mistake>
        <input type="hidden" name="baseGeneration" value={String(server.generation)} />
        <InputFields
          asked={asked}
          values={props.values ?? server.config.values}
          mistakes={props.mistakes ?? {}}
          keptSecrets={Object.keys(server.config.secrets)}
        />
        <OptionFields {...props} />
        <button>Save and redeploy</button>
      </Form>
    </section>
  );
}

/** How it runs, apart from what its entry asks. */
function OptionFields({ server, values, mistakes = {} }: ConfigurationProps) {
  const { entry, options } = server.config;
  const idle = options.idleStopS === null ? "" : String(options.idleStopS / 60);
  const instances = values?.["option.instances"] ?? options.instances ?? entry.instances;
  const isOpen = Object.keys(mistakes).some((field) => field.startsWith("option."));
  return (
    <details class="more" open={isOpen}>
      <summary>How it runs</summary>
      <Field
        name="option.memoryMiB"
        label="Memory, in MiB"
        type="number"
        value={values?.["option.memoryMiB"] ?? String(options.memoryMiB ?? entry.memoryMiB)}
        mistake={mistakes["option.memoryMiB"]}
        help={`Its entry asks for ${entry.memoryMiB}. A server that uses more is ended and started anew.`}
      />
      <div class="field">
        <label for="field-option-instances">Instances</label>
        <select id="field-option-instances" name="option.instances">
          <option value="shared" selected={instances === "shared"}>One for all agents</option>
          <option value="agent" selected={instances === "agent"}>One for each agent</option>
          <option value="session" selected={instances === "session"}>
            One for each client's session
          </option>
        </select>
        <p class="help">
          An instance of its own keeps what one agent tells a server from the others, and lets the
          server ask its agent something while others call it too.
        </p>
      </div>
      <TierField
        tier={values?.["option.tier"] ?? server.tier}
        entryTier={entry.tier}
        mistake={mistakes["option.tier"]}
      />
      {!isElsewhere(entry.package) && (
        <TransportFields
          transport={options.transport ?? entry.transport}
          values={values}
          mistakes={mistakes}
        />
      )}
      <Field
        name="option.idleStopMinutes"
        label="Sleep after so many minutes without a call"
        type="number"
        value={values?.["option.idleStopMinutes"] ?? idle}
        mistake={mistakes["option.idleStopMinutes"]}
        help="Empty: never. The next call wakes it, and waits for it."
      />
    </details>
  );
}
