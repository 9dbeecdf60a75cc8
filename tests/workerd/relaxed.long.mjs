// The build with relaxed SIMD in workerd, selected by the Worker's variable BUILD, returns the texts of Node.

import { test } from "node:test";
import { checkParity } from "./worker.mjs";

test("workerd with relaxed SIMD and Node return the same texts", (t) => checkParity(t, "relaxed"));
