"""Figures, drawn with Plotly and without Streamlit."""
