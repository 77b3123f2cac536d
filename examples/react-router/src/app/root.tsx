import { Outlet, Scripts } from "react-router"

export default () => (
  <html lang="en">
    <head>
      <meta charSet="utf-8" />
      <meta name="viewport" content="width=device-width" />
      <title>Greenhouse</title>
    </head>
    <body>
      <Outlet />
      <Scripts />
    </body>
  </html>
)
