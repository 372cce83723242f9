"""What who is not known to this server sees in place of a page."""

from __future__ import annotations

import streamlit as st

from views.shared.access import EDITORS_VARIABLE, VIEWERS_VARIABLE
from views.shared.markdown import md_escape


def draw_sign_in() -> None:
    """Offer to sign in; to who has signed in and is on no list, say so."""
    user = st.user.to_dict()
    if not user.get("is_logged_in"):
        st.header("Sign in", anchor=False)
        st.write("The recordings on this server are shown to people that its owner knows.")
        if st.button("Sign in", key="sign_in", type="primary"):
            st.login()
        return
    st.header("Not on the list", anchor=False)
    mail = md_escape(str(user.get("email") or "somebody without an address of mail")[:200])
    st.markdown(
        f"You are signed in as {mail}. The owner of this server has not listed that address in "
        f"`{VIEWERS_VARIABLE}` or `{EDITORS_VARIABLE}`, or the provider has not verified it."
    )
    if st.button("Sign out", key="sign_out"):
        st.logout()
