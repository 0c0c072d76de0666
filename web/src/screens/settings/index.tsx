import "../../styles/teach.css";
import "../../styles/settings.css";

import { useQuery } from "@tanstack/react-query";
import { type ReactNode, useId } from "react";

import { api, type Schemas, told } from "../../api/client";
import { messageOf } from "../../api/errors";
import { fill, useText } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { Fold } from "../../ui/fold";
import { useFormat } from "../../ui/format";
import { LIMITS, shares } from "./limits";
import { Browser, KeyPart } from "./own";
import { texts } from "./text";

type Server = Schemas["ServerShape"];
const LOOK_MS = 10_000;

/** Settings: what this browser remembers, and what the server runs with. */
export function Settings() {
  const text = useOwnText(texts);
  const { data: server, error } = useQuery({
    queryKey: ["server"],
    queryFn: () => told(api.GET("/v1/server")),
    refetchInterval: LOOK_MS,
  });
  return (
    <div className="settings-screen">
      <header className="screen-head">
        <h1>{text.title}</h1>
      </header>
      <div className="settings-columns">
        <div className="settings-column">
          <Browser />
          <KeyPart you={server?.you ?? null} />
          {server?.access !== undefined && server.access !== null && <Access access={server.access} />}
        </div>
        <div className="settings-column">
          {error !== null && <p role="alert">{messageOf(error)}</p>}
          {server !== undefined && <ServerPart server={server} />}
          {server?.places === null && <p className="quiet">{text.onlyAdmins}</p>}
          {server?.places !== undefined && server.places !== null && <Places server={server} places={server.places} />}
        </div>
      </div>
    </div>
  );
}

export function Part({ title, children }: { title: string; children: ReactNode }) {
  const label = useId();
  return (
    <section className="teach-part" aria-labelledby={label}>
      <h2 id={label}>{title}</h2>
      {children}
    </section>
  );
}

function ServerPart({ server }: { server: Server }) {
  const text = useOwnText(texts);
  const app = useText();
  const { duration, bytes, number } = useFormat();
  const now = useQuery({ queryKey: ["now", server], queryFn: () => Date.now() / 1000 }).data ?? server.started;
  const kinds = { count: number, seconds: duration, bytes };
  return (
    <Part title={text.server}>
      <dl className="facts">
        <Fact name={app.app.name}>{server.version}</Fact>
        <Fact name={text.runs}>{[server.system, `Python ${server.python}`, server.torch === "" ? "" : `torch ${server.torch}`].filter((one) => one !== "").join(" · ")}</Fact>
        <Fact name={text.since}>{duration(now - server.started)}</Fact>
      </dl>
      <ul className="workers" aria-label={text.workers}>
        {server.workers.map((worker) => (
          <Worker key={worker.name} worker={worker} />
        ))}
      </ul>
      <Fold title={text.limits}>
        <dl className="facts">
          {LIMITS.map(([name, kind]) => (
            <Fact key={name} name={text[`limit_${name}`]}>
              {kinds[kind](server.limits[name] ?? 0)}
            </Fact>
          ))}
        </dl>
      </Fold>
    </Part>
  );
}

export function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Worker({ worker }: { worker: Server["workers"][number] }) {
  const text = useOwnText(texts);
  const { bytes } = useFormat();
  const state = worker.ready ? (worker.busy ? text.busy : text.idle) : text.starting;
  return (
    <li className="worker">
      <span className={worker.ready ? "lamp lamp-on" : "lamp"} aria-hidden="true" />
      <strong>{worker.device === "" ? worker.name : worker.device}</strong>
      <span className="quiet">{state}</span>
      <span className="quiet worker-memory">
        {text.memory}: {worker.loaded.length === 0 ? text.nothing : worker.loaded.join(", ")}
        {worker.device_total > 0 && ` · ${fill(text.cardMemory, { free: bytes(worker.device_free), total: bytes(worker.device_total) })}`}
      </span>
    </li>
  );
}

function Places({ server, places }: { server: Server; places: NonNullable<Server["places"]> }) {
  const text = useOwnText(texts);
  const { bytes, duration, number } = useFormat();
  const names: Record<string, string> = { outputs: text.outputs, uploads: text.uploads, runs: text.runs_, states: text.states, database: text.database };
  const limit = (name: string) => server.limits[name] ?? 0;
  const hint = { outputs: bytes(limit("outputs")), history: number(limit("history")), run_kept: duration(limit("run_kept")) };
  return (
    <>
      <Part title={text.folders}>
        <p className="quiet">{text.foldersHint}</p>
        <ul className="folders">
          {places.models.map((folder) => (
            <Folder key={folder.path} folder={folder} />
          ))}
          <Folder folder={places.data} name={text.dataFolder} />
        </ul>
        <dl className="facts">
          <Fact name={text.database}>
            <code>{places.database}</code>
          </Fact>
        </dl>
      </Part>
      <Part title={text.kept}>
        <ul className="kept-list">
          {shares(places.kept).map(([name, count, share]) => (
            <li key={name}>
              <span>{names[name] ?? name}</span>
              <span className="quiet">{bytes(count)}</span>
              <progress className="progress-bar" max={1} value={share} aria-label={names[name] ?? name} />
            </li>
          ))}
        </ul>
        <p className="quiet">{fill(text.keptHint, hint)}</p>
      </Part>
    </>
  );
}

function Folder({ folder, name }: { folder: Schemas["FolderShape"]; name?: string }) {
  const text = useOwnText(texts);
  const { bytes } = useFormat();
  const notes = [folder.there ? "" : text.missing, folder.writable ? "" : text.readOnly].filter((note) => note !== "");
  return (
    <li>
      {name !== undefined && <span className="label">{name}</span>}
      <code>{folder.path}</code>
      <span className="quiet">{[fill(text.free, { free: bytes(folder.free), total: bytes(folder.total) }), ...notes].join(" · ")}</span>
    </li>
  );
}

function Access({ access }: { access: NonNullable<Server["access"]> }) {
  const text = useOwnText(texts);
  const lists: [string, readonly string[]][] = [
    [text.hosts, access.hosts],
    [text.origins, access.origins],
    [text.webhooks, access.webhooks],
  ];
  return (
    <Part title={text.access}>
      <dl className="facts">
        <Fact name={text.keys}>
          {access.keys.length === 0 && text.keysNone}
          {access.keys.map((key) => (
            <span key={key.name} className="key">
              {key.name} {key.admin && <span className="badge">{text.admin}</span>}
            </span>
          ))}
        </Fact>
        {lists
          .filter(([, values]) => values.length > 0)
          .map(([name, values]) => (
            <Fact key={name} name={name}>
              {values.join(", ")}
            </Fact>
          ))}
      </dl>
      <p className="quiet">{text.accessHint}</p>
    </Part>
  );
}
