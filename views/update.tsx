import type { EntryChange } from "../models/entry_changes.ts";
import type { Server } from "../models/servers.ts";
import type { Offer } from "../models/offers.ts";
import type { DeployedServer, UpdateStatus } from "../models/updates.ts";
import { BuildConsent, InputFields } from "./deploy_form.tsx";
import { Form } from "./form.tsx";
import { Mistake, Time } from "./parts.tsx";
import { Failure } from "./server_generations.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface UpdateProps {
  server: Server;
  update: UpdateStatus;
  /** Of its form, when it did not hold. */
  values?: Record<string, string>;
  mistakes?: Record<string, string>;
  mistake?: string;
}

/** The newer version that a server can be given: what it changes, and the way to it. Empty where there is none. */
export function ServerUpdate(props: UpdateProps) {
  const { server, update } = props;
  const isShown = server.removedAt === null &&
    (update.offer !== null || update.failed !== null ||
      update.state === "listed_only" || update.state === "older");
  if (!isShown) return <section id="update" hidden></section>;
  const { offer, failed } = update;
  return (
    <section class="card update" id="update" aria-labelledby="update-title">
      <h2 id="update-title">
        {update.state === "available" && offer ? titleOf(offer) : "Its catalog entry"}
      </h2>
      {failed && (
        <div class="notice bad">
          <p>
            {failed.version
              ? <>The update to {visibleText(failed.version)}</>
              : <>Generation {failed.generation}</>} of <Time at={failed.at} relative />{" "}
            did not get ready, so the settings of before are back and serve.
          </p>
          <Failure reason={failed.reason} log={failed.log} />
        </div>
      )}
      {update.state === "listed_only" && (
        <p>
          Its catalog has {visibleText(update.listed || "another version")}{" "}
          now, which cannot be deployed here: {visibleText(update.obstacle ?? "")}.
        </p>
      )}
      {update.state === "older" && (
        <p>
          Its catalog has {visibleText(update.listed || "another version")}{" "}
          now, which is older than what runs: perhaps the newer one was taken back. It is not
          offered.
        </p>
      )}
      {update.state === "available" && offer && <OfferForm {...props} offer={offer} />}
      {update.state === "skipped" && offer && <Skipped server={server} offer={offer} />}
    </section>
  );
}

function titleOf({ kind, to }: Offer): string {
  return kind === "revised" ? "Its entry was revised" : `Update to ${versionTitle(to)}`;
}

/** Of an entry that names none, such as one of a remote server, another word. */
function versionTitle(version: string): string {
  return visibleText(version) || "another version";
}

/** What an offer is called where there is room for a few words. */
export function offerTitle({ kind, to }: Offer): string {
  return kind === "revised" ? "revised entry" : `update to ${versionTitle(to)}`;
}

function OfferForm(
  { server, update, offer, values, mistakes = {}, mistake }: UpdateProps & { offer: Offer },
) {
  const url = useUrl();
  const path = url(`/servers/${server.id}/update`);
  return (
    <>
      <p>
        <OfferInWords offer={offer} /> {update.slug && (
          <>
            <a href={url(`/marketplace/${update.slug}`)}>See the entry</a>.
          </>
        )}
      </p>
      <OfferChanges offer={offer} />
      <Form action={path}>
        <Mistake>{mistake}</Mistake>
        <input type="hidden" name="update" value={offer.id} />
        {isAnothers(offer) && offer.asks.some(({ input }) => input.isSecret) && (
          <p class="help">
            Secrets are asked for again, since they would go to somebody else than before.
          </p>
        )}
        <InputFields
          asked={offer.asks}
          values={values ?? offer.values}
          mistakes={mistakes}
          keptSecrets={[]}
        />
        {offer.asksConsent && (
          <BuildConsent
            code={offer.asksConsent}
            isGiven={values?.["consent.build"] === "true"}
            mistake={mistakes["consent.build"]}
          />
        )}
        <button>
          {update.failed?.version === offer.to
            ? "Try it again"
            : offer.kind === "revised"
            ? "Take it over"
            : `Update to ${versionTitle(offer.to)}`}
        </button>
      </Form>
      <Form action={`${path}/skip`} class="inline">
        <input type="hidden" name="update" value={offer.id} />
        <button class="quiet small">
          {offer.kind === "revised" ? "Leave it as it is" : "Skip this version"}
        </button>
      </Form>
      <p class="help">
        {server.running
          ? "The new version starts beside the one that serves, and takes over once its tools are " +
            "listed. If it does not get ready, the settings of now come back by themselves."
          : "The server is stopped, and stays so."}{" "}
        Tools whose definitions differ are withheld until you approve them.
      </p>
    </>
  );
}

function isAnothers({ changes }: Offer): boolean {
  return changes.some(({ about, widens }) => about === "package" && widens);
}

function OfferInWords({ offer }: { offer: Offer }) {
  const { kind, from, to, at } = offer;
  const numbers = (
    <>
      {from ? <code>{visibleText(from)}</code> : "an earlier version"}
    </>
  );
  if (kind === "revised") {
    return (
      <>
        It runs {numbers}, of which its catalog says something else since <Time at={at} />.
      </>
    );
  }
  return (
    <>
      It runs {numbers}; its catalog has <code>{versionTitle(to)}</code> of <Time at={at} />.{" "}
      {kind === "later" &&
        "Their names do not tell which one is newer: this one came to the catalog later. "}
      {offer.isPrerelease && "It is a pre-release, says its number. "}
    </>
  );
}

const TITLES: [EntryChange["about"], string][] = [
  ["package", "What runs"],
  ["permissions", "What it is allowed"],
  ["inputs", "What it asks for"],
  ["running", "How it is started"],
  ["tools", "Tools"],
];

/** What an update changes, by what it is about; what widens is said to in words. */
export function OfferChanges({ offer: { changes, namesTools } }: { offer: Offer }) {
  return (
    <dl class="changes">
      {TITLES.map(([about, title]) => {
        const of = changes.filter((change) => change.about === about);
        if (of.length === 0 && about !== "permissions" && about !== "tools") return null;
        return (
          <>
            <dt>{title}</dt>
            <dd>
              {of.length > 0
                ? (
                  <ul class="diff">
                    {of.map((change) => <ChangeLine change={change} />)}
                  </ul>
                )
                : about === "permissions"
                ? "As before."
                : namesTools
                ? "Those that it lists now, as far as its entry says."
                : "Its entry names none: what differs shows once it runs, and waits for you."}
            </dd>
          </>
        );
      })}
    </dl>
  );
}

function ChangeLine({ change: { about, name, before, after, widens } }: { change: EntryChange }) {
  return (
    <li>
      {visibleText(name)}: {before !== null && <del>{visibleText(before)}</del>}{" "}
      {after !== null && <ins>{visibleText(after)}</ins>} {widens && (
        <span class="badge warn">
          {about === "package" ? "check whose it is" : "more than before"}
        </span>
      )}
    </li>
  );
}

function Skipped({ server, offer }: { server: Server; offer: Offer }) {
  const url = useUrl();
  return (
    <Form action={url(`/servers/${server.id}/update/skip`)} class="inline">
      <input type="hidden" name="update" value="" />
      <span>
        You skipped {offer.kind === "revised" ? "what is said of it now" : versionTitle(offer.to)}.
      </span>{" "}
      <button class="quiet small">Offer it again</button>
    </Form>
  );
}

/** On an entry's page: the workspace's servers that were deployed from it, and how they stand to it. */
export function DeployedFrom({ servers }: { servers: DeployedServer[] }) {
  const url = useUrl();
  if (servers.length === 0) return null;
  return (
    <>
      <h2>Deployed from it</h2>
      <ul class="plain">
        {servers.map(({ id, name, update }) => (
          <li>
            <a href={url(`/servers/${id}`)}>{name}</a>
            {update.installed && (
              <>
                , <code>{visibleText(update.installed)}</code>
              </>
            )}
            {update.state === "available" && update.offer && (
              <>
                {" "}
                <a class="badge" href={url(`/servers/${id}#update`)}>
                  {offerTitle(update.offer)}
                </a>
                <details>
                  <summary>What changes</summary>
                  <OfferChanges offer={update.offer} />
                </details>
              </>
            )}
            {update.state === "older" && " (newer than what is listed here)"}
          </li>
        ))}
      </ul>
    </>
  );
}
