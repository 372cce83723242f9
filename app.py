"""The launcher: ``streamlit run app.py`` serves the pages and the routes beside them."""

import streamlit as st

from views.server.routes import ROUTES, lifespan

app = st.App("views/main.py", routes=ROUTES, lifespan=lifespan)
