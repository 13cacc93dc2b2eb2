"""Every line marked `error` has to be refused: a check that accepts it checks nothing."""

import safetransformers as st
from safetransformers import BertConfig, BertModel, NoSuchModel  # error

st.configure(padding="guess")  # error
st.configure(paddings="infer")  # error
st.strict(strict=False)  # error
st.Policy(verify="sometimes")  # error
st.get_policy().padding = "off"  # error
st.unpatch(True)  # error
st.guard("not a model")  # error
count: str = st.report()["padding.inferred"]  # error
name: BertModel = st.guard(BertConfig())  # error
missing: NoSuchModel
