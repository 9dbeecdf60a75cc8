/** A page with the documentation's browser snippet, unmodified, and the element `el` to which the snippet writes. */
export const snippetPage = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <title>The documentation's EventSource snippet</title>
  </head>
  <body>
    <p id="output" style="white-space: pre-wrap"></p>
    <script>
const el = document.getElementById("output");
    </script>
    <script>
const source = new EventSource("/"); // Workers AI streaming endpoint

source.onmessage = (event) => {
  if (event.data == "[DONE]") {
    source.close();
    return;
  }

  const data = JSON.parse(event.data);
  el.innerHTML += data.response;
}
    </script>
  </body>
</html>
`;
