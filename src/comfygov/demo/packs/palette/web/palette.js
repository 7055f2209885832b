// The browser side of the palette pack of the comfygov demo.
import { app } from "../../scripts/app.js";

app.registerExtension({ name: "comfygov.demo.palette" });
