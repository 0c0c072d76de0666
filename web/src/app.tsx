import { lazy, Suspense } from "react";
import { Route, Switch } from "wouter";

import { useText } from "./i18n";
import { Paint } from "./screens/paint/paint";
import { Shell } from "./shell";

// Every screen but the first is read when it is first opened.
const Canvas = lazy(async () => ({ default: (await import("./screens/canvas")).Canvas }));
const Gallery = lazy(async () => ({ default: (await import("./screens/gallery")).Gallery }));
const Queue = lazy(async () => ({ default: (await import("./screens/queue")).Queue }));
const Teach = lazy(async () => ({ default: (await import("./screens/teach")).Teach }));
const Models = lazy(async () => ({ default: (await import("./screens/models")).Models }));
const Settings = lazy(async () => ({ default: (await import("./screens/settings")).Settings }));

export function App() {
  const text = useText();
  return (
    <Shell>
      <Suspense fallback={<p className="quiet">{text.app.loading}</p>}>
        <Switch>
          <Route path="/" component={Paint} />
          <Route path="/canvas" component={Canvas} />
          <Route path="/gallery" component={Gallery} />
          <Route path="/queue" component={Queue} />
          <Route path="/teach" component={Teach} />
          <Route path="/models" component={Models} />
          <Route path="/settings" component={Settings} />
          <Route>
            <p>{text.app.notFound}</p>
          </Route>
        </Switch>
      </Suspense>
    </Shell>
  );
}
