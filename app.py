"""The launcher: ``streamlit run app.py`` serves the pages and the routes beside them."""

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

import views
from views.server.admission import Admission
from views.server.routes import ROUTES, lifespan
from views.server.sessions import PageSessions

app = st.App(
    Path(views.__file__).with_name("main.py"),
    routes=ROUTES,
    middleware=[Middleware(Admission), Middleware(PageSessions)],
    lifespan=lifespan,
)
